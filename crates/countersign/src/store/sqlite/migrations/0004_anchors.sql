-- Where the pruned parts of audit chains end. How far the trail was pruned stands in meta.
CREATE TABLE anchors (
    subject BLOB    NOT NULL PRIMARY KEY,
    -- The place of the newest event that was pruned; 0 if none was.
    seq     INTEGER NOT NULL,
    body    BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
