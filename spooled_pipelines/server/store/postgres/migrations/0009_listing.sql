-- What an operator looks through: the newest batches, the workers that were heard of last.
CREATE INDEX batches_listed ON batches (organization, id) WHERE NOT superseded AND NOT forgotten;
CREATE INDEX batches_listed_of_queue ON batches (queue, id) WHERE NOT superseded AND NOT forgotten;
CREATE INDEX workers_listed ON workers (organization, seen_at);
