-- When the operator was last warned of a failing destination: nobody's is disabled unwarned.

ALTER TABLE destination_health ADD COLUMN warned_at DOUBLE PRECISION;
