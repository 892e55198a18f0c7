-- When somebody last asked for a delivery again: what was wanted then is not too old by when it was made.

ALTER TABLE deliveries ADD COLUMN redelivered_at DOUBLE PRECISION;
