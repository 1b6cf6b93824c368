-- How many jobs an organization that has a quota has made on a day (days since the epoch, UTC).
CREATE TABLE daily_jobs (
    organization integer PRIMARY KEY REFERENCES organizations,
    day integer NOT NULL,
    jobs bigint NOT NULL
);
