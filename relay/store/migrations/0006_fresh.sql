-- What was never attempted is found past thousands of retries that are due.

CREATE INDEX deliveries_fresh ON deliveries (destination, next_attempt_at, id)
    WHERE state = 'pending' AND attempts_made = 0;
