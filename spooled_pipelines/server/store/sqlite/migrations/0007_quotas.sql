-- How many jobs an organization that has a quota has made on a day (days since the epoch, UTC).
CREATE TABLE daily_jobs (
    organization INTEGER PRIMARY KEY REFERENCES organizations,
    day INTEGER NOT NULL,
    jobs INTEGER NOT NULL
);
