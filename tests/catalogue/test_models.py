"""The catalogue says what the documentation says, and judges inputs by it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from relay.catalogue import faults, loading, models

MODELS = loading.load()

SLUGS = [
    "apimart-doubao-seedance-4-0",
    "doubao-seedance-1-0-pro-fast",
    "doubao-seedance-1-0-pro-quality",
    "doubao-seedance-1-5-pro",
    "doubao-seedance-2-0-fast",
    "doubao-seedream-5-0-lite",
    "gemini-2-5-flash-image-preview-official",
    "gemini-3-1-flash-image-preview",
    "gemini-3-pro-image-preview-official",
    "gpt-image-2",
    "happyhorse-1-0",
    "kling-v2-6-motion-control",
    "kling-v2-6",
    "kling-v3-motion-control",
    "kling-v3-omni",
    "kling-v3",
    "kling-video-o1",
    "minimax-hailuo-02",
    "minimax-hailuo-2-3",
    "qwen-image-2-0-pro",
    "skyreels-v4-fast",
    "veo3-1-fast-official",
    "veo3-1-fast",
    "veo3-1-quality-official",
    "veo3-1-quality",
    "viduq3-pro",
    "viduq3-turbo",
    "viduq3",
    "wan2-5-preview",
    "wan2-6-i2v-flash",
    "wan2-7-image",
    "wan2-7-r2v",
    "wan2-7-videoedit",
]

COSTS = {
    "minimax-hailuo-2-3": "0.3294",
    "happyhorse-1-0": "0.25875",
    "kling-v2-6-motion-control": "0.06426",
    "veo3-1-quality": "0.675",
    "gpt-image-2": "0.0135",
}


def model(slug: str) -> models.Model:
    found = MODELS.find(slug)
    assert found is not None
    return found


def test_has_the_33_documented_models() -> None:
    assert sorted(each.slug for each in MODELS) == sorted(SLUGS)
    assert len(MODELS) == 33


@pytest.mark.parametrize("slug", SLUGS)
def test_takes_every_documented_example(slug: str) -> None:
    assert model(slug).faults(model(slug).example_input) == []


@pytest.mark.parametrize(("slug", "cost"), COSTS.items())
def test_keeps_the_documented_costs_to_the_last_decimal(slug: str, cost: str) -> None:
    assert model(slug).cost_estimate == Decimal(cost)


def test_knows_what_makes_pictures() -> None:
    images = {each.slug for each in MODELS if each.output_kind == "images"}
    assert len(images) == 8
    assert "apimart-doubao-seedance-4-0" in images  # named like the video family


def test_one_schema_is_whole() -> None:
    assert [each.slug for each in MODELS if each.schema_complete] == ["minimax-hailuo-2-3"]
    schema = model("minimax-hailuo-2-3").schema
    assert schema is not None
    assert schema["required"] == ["prompt"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {
        "prompt",
        "duration",
        "watermark",
        "resolution",
        "prompt_optimizer",
        "fast_pretreatment",
        "first_frame_image",
    }
    assert schema["properties"]["duration"]["enum"] == [6, 10]
    assert schema["properties"]["first_frame_image"]["x-playground"]["uploadKind"] == "image"


def test_tells_all_faults_at_once_each_with_its_place() -> None:
    found = model("minimax-hailuo-2-3").faults(
        {
            "prompt": "",
            "duration": 7,
            "resolution": 720,
            "a/b": 1,
            "size": "16:9",
            "first_frame_image": "data:video/mp4;base64,AAAA",
        }
    )
    assert {fault.pointer for fault in found} == {
        "/input/prompt",
        "/input/duration",
        "/input/resolution",
        "/input/a~1b",
        "/input/size",
        "/input/first_frame_image",
    }


def test_a_misspelt_member_is_told_the_nearest() -> None:
    [fault] = model("minimax-hailuo-2-3").faults({"prompt": "x", "duraton": 6})
    assert fault == faults.Fault("This member is not known here; the nearest is duration.", "/input/duraton")


def test_messages_repeat_no_value() -> None:
    secret = "private-" * 10_000
    image = {"first_frame_image": f"data:image/{secret};base64,AAAA"}
    found = model("minimax-hailuo-2-3").faults({"prompt": "x", "resolution": secret, **image})
    assert len(found) == 2
    assert all("private" not in fault.detail for fault in found)


def test_faults_are_bounded() -> None:
    many = {f"member{number}": number for number in range(10_000)}
    assert len(model("minimax-hailuo-2-3").faults({"prompt": "x", **many})) == faults.FAULTS_MAX


def test_a_fragment_judges_what_it_names_and_nothing_else() -> None:
    image_to_video = model("wan2-6-i2v-flash")
    assert image_to_video.faults({"image_urls": ["https://example.com/a.jpg"], "anything": 1}) == []
    assert [fault.detail for fault in image_to_video.faults({"prompt": "x"})] == [
        '"image_urls" is a required property.'
    ]


@pytest.mark.parametrize(
    ("meant", "typed"),
    [("minimax-hailuo-2-3", "minimax-hailuo-2.3"), ("kling-v3", "klingv3"), ("viduq3", "vidu-q3")],
)
def test_finds_the_nearest_slug(meant: str, typed: str) -> None:
    assert MODELS.find(typed) is None
    assert meant in MODELS.nearest(typed)
