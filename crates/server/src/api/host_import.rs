//! Inventories of machines that reach no server.

use super::{Answer, Endpoint};
use crate::AppState;
use crate::access::Actor;
use crate::extract::{parse, unreadable};
use crate::ops;
use crate::problem::Refusal;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::problem::kind;
use fettle_wire::scan::{FORMAT, Imported, Scan, VERSION};
use serde::Deserialize;

/// Longest document, as that of a check-in.
const LONGEST: usize = 32 << 20;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(
            "/host-imports",
            Permission::HostManage,
            "Take in the inventory that `fettle agent scan` wrote on a machine without network",
            import,
        )
        .request::<serde_json::Value>()
        .response::<Imported>()
        .body_limit(LONGEST),
    ]
}

/// What every version of the document begins with.
#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

async fn import(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    bytes: Result<Bytes, BytesRejection>,
) -> Answer<Imported> {
    let bytes = bytes.map_err(unreadable)?;
    let head: Head = parse(&bytes)?;
    if head.format != FORMAT || head.version != VERSION {
        // Before the rest is read, which another version may have in another form.
        let found: String = head.format.chars().filter(|c| !c.is_control()).take(40).collect();
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind::INVALID,
            "A document of another kind or version",
            format!("it is `{found}` version {}; this server reads `{FORMAT}` version {VERSION}", head.version),
        )
        .about(if head.format == FORMAT { "version" } else { "format" })
        .advise("Scan again with a fettle of this server's version: fettle agent scan --out FILE"));
    }
    let scan: Scan = parse(&bytes)?;
    drop(bytes);
    Ok(Json(ops::host_import::import(&state, &actor, scan).await?))
}
