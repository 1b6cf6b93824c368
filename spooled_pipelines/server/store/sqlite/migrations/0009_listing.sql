-- What an operator looks through: the newest batches, the workers that were heard of last.
CREATE INDEX batches_listed ON batches (organization, id) WHERE superseded = 0 AND forgotten = 0;
CREATE INDEX batches_listed_of_queue ON batches (queue, id)
    WHERE superseded = 0 AND forgotten = 0;
CREATE INDEX workers_listed ON workers (organization, seen_at);
