//! What the REST API says (`/api/v1`), one module a noun. Ids and times are text. Lists carry
//! `items`, `next` (pass it as `after`; absent at the end) and, where it is cheap, `total`.

pub mod account;
pub mod audit;
pub mod change;
pub mod feed;
pub mod finding;
pub mod host;
pub mod log;
pub mod problem;
