//! `fettle audit`.

use super::{query, text};
use crate::cli::{Audit, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use serde_json::Value;

/// Runs it.
pub async fn run(command: &Audit, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Audit::List { page, sort, actor, action, object } => {
            let filters = [
                ("sort", sort.clone()),
                ("actor", actor.clone()),
                ("action", action.clone()),
                ("object", object.clone()),
            ];
            let answer = client.get("/audit", &query(page, &filters)).await?;
            if form == Output::Json {
                return output::json(&answer);
            }
            let columns = [
                fixed("#", "/sequence"),
                fixed("AT", "/at"),
                flexible("ACTOR", "/actor"),
                fixed("ACTION", "/action"),
                flexible("OBJECT", "/object"),
            ];
            output::print(&output::table(&answer, &columns, output::width(), "No entry fits."))
        }
        Audit::Verify => verify(&client.get("/audit/verify", &[]).await?, form),
    }
}

fn verify(answer: &Value, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        output::json(answer)?;
    }
    if answer.get("intact").and_then(Value::as_bool) == Some(true) {
        if form == Output::Table {
            output::line(&format!("intact: {} entries, head {}", text(answer, "/checked"), text(answer, "/head")))?;
        }
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the audit log was changed at entry {}: {}",
        text(answer, "/broken_at"),
        text(answer, "/why")
    ))
    .advise("Compare with a back-up from before; entries up to there hold."))
}
