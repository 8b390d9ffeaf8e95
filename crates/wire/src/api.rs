//! What the REST API says, under `/api/v1`. One file a noun.
