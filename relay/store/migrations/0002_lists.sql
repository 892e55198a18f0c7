-- What lists are read by: each filter that most tasks fail has an index in the order of the list.

CREATE INDEX tasks_by_status ON tasks (status, created_at, id);

CREATE INDEX tasks_by_verdict ON tasks (verdict, created_at, id);

CREATE INDEX tasks_by_model ON tasks (model, created_at, id);

CREATE INDEX tasks_by_upstream ON tasks (upstream, created_at, id);

CREATE INDEX deliveries_by_destination ON deliveries (destination, created_at, id);
