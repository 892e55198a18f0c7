"""Which Apprise schemes relay sends to, and which arguments it takes from nobody.

An allow-list, so that a newer Apprise brings no scheme in by itself. Left out on purpose are those
that act on the machine relay runs on (``LOCAL``) and those whose library is not installed with
relay. Only text: the daemon reads it without importing Apprise.
"""

from __future__ import annotations

import difflib
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAIL: Final = frozenset({"mailto", "mailtos"})
"""Mail over SMTP: slower than chat, and nothing in it mentions anybody."""

CHAT: Final = _words(
    """
    46elks eight00com apprise apprises aprs atalk azure bark barks betterstack bluesky brevo bsky bulksms
    bulkvs burstsms chanify clickatell clicksend cliq cm d7sms dapnet deltachat deltachats dingtalk
    discord dot elks emby embys enigma2 enigma2s evolution evolutions exotel fcm feishu firehydrant flock
    flowtriq flowtriqs fluxer fluxers form forms freemobile gchat github goalert goalerts gorush gorushs
    gotify gotifys groundmail groupme guilded gupshup hassio hassios httpsms humhub humhubs ifttt ilert
    incidentio infobip irc ircs jellyfin jellyfins jira join json jsons kakao kakaotalk kaleyra kavenegar
    klr kodi kodis kook kudosity kumulos lametric lametrics lark lauther lfg line mailersend mailgun
    mastodon mastodons matrix matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg msg91 msgbird
    ncloud nclouds nctalk nctalks nexmo nostr notica noticas notifiarr notifico notificos notifyre ntfy
    ntfys o365 octopush onebot onebots onesignal opsgenie pagerduty pagertree parsep parseps pbul pinglet
    pinglets pingram pjet pjets plivo postmark pover prowl psafer psafers push pushdeer pushdeers pushed
    pushme pushplus pushward pushy qq reddit resend revolt ringc rocket rockets ryver schan sendgrid
    sendpulse serwersms ses session sessions seven sfr signal signalgrid signals signl4 simplepush sinch
    slack smsc smseagle smseagles smsmanager smsmgr smstunnel smtp2go sns sogs sparkpost spike splunk
    spugpush spush squadcast stackfield strmlabs synology synologys telesign telnyx tgram threema toot toots
    trigv trigvs tweet twilio twist twitter vapid viber victorops voipms vonage webex wechat wecom wecombot
    whapi whatsapp workflow workflows wpush wxpusher wxteams x xbmc xbmcs xmatters xml xmls youlmk zalo
    zcliq zohocliq zoom zulip
    """
)

ALLOWED: Final = MAIL | CHAT

LOCAL: Final = _words("blink1 dbus file gio glib gnome growl kde macosx qt rsyslog sendmail syslog windows")
"""Schemes that act on the local machine."""

REFUSED_ARGUMENTS: Final = _words(
    """
    retry wait optional redirect verify rto cto template keyfile subfile pgp pgpkey pgppub pgpprv wkd store
    tz overflow attach
    +connection +content-length +expect +host +keep-alive +proxy-authorization +proxy-connection +te +trailer
    +transfer-encoding +upgrade
    """
)
"""URL arguments that would take a decision out of relay's hands (repeat, follow redirects, hide a failure,
skip TLS verification, sleep), or make Apprise read local files or fetch attachments. Those with a plus are
headers that services add to the request: the ones that say where it goes and where it ends."""


def problem(scheme: str) -> str | None:
    """Why relay does not send to ``scheme``, or ``None`` when it does."""
    if scheme in ALLOWED:
        return None
    if scheme in LOCAL:
        return f"{scheme}:// acts on the machine that relay runs on, which is not allowed"
    near = difflib.get_close_matches(scheme, sorted(ALLOWED | {"http", "https"}), n=1)
    hint = f"; did you mean {near[0]}://?" if near else "; use http(s):// or a scheme of Apprise"
    return f"{scheme}:// is not a scheme that relay sends to{hint}"
