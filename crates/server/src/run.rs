//! From an empty directory to a serving server, and back to rest without losing anything.

use crate::access::password::{self, Passwords};
use crate::access::{Actor, secret};
use crate::identity::{self, Identity, IdentityError};
use crate::listener::Listener;
use crate::ops::OpsError;
use crate::settings::Complaint;
use crate::{AppState, Settings, Shutdown, agent_api, api, clock, headers, health, limits, ui};
use axum::Router;
use axum::http::Uri;
use axum::response::Response;
use fettle_domain::access::Role;
use fettle_plugin::Feed;
use fettle_store::systems::{audit, user};
use fettle_store::{DatabaseUrl, Store, StoreError};
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Name of the first administrator.
pub const FIRST_ADMINISTRATOR: &str = "admin";
/// Between two looks at the TLS certificate and at sessions whose time is over.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// What a server needs to know.
pub struct ServerOptions {
    /// Keys, certificates and the embedded database.
    pub data_dir: PathBuf,
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `postgres://…` or `sqlite:PATH`; the embedded default in the data directory when absent.
    pub database_url: Option<String>,
    /// Configuration.
    pub settings: Settings,
    /// The publishers it can load.
    pub feeds: Vec<Box<dyn Feed>>,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Keys and certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation at the start.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// The configuration.
    #[error("{0}")]
    Settings(Complaint),
    /// The port.
    #[error("cannot listen on {listen}: {cause} (another program may use this port: choose one with --listen)")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The runtime.
    #[error("the start ended abruptly: {0}")]
    Abrupt(String),
}

/// What must be said to who started the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Announcement {
    /// `https://HOST:PORT`, as a person on this machine may use it.
    pub address: String,
    /// What is listened on.
    pub listen: SocketAddr,
    /// sha-256 of the authority's certificate, as colon-separated hex pairs as browsers show it.
    pub authority_fingerprint: String,
    /// Where the authority's certificate stands, to be made known to a browser.
    pub authority_path: PathBuf,
    /// Name and one-time password of the first administrator, when it was just made. Said once.
    pub administrator: Option<(String, String)>,
}

/// A server that is ready: the port is open, nothing is answered yet.
pub struct Prepared {
    state: AppState,
    listener: Listener,
    announcement: Announcement,
}

/// Makes all that is missing and opens the port.
pub async fn prepare(options: ServerOptions) -> Result<Prepared, ServerError> {
    prepare_with(options, Store::open).await
}

/// The same with one transaction for each write: the baseline of `./bench checkin`.
pub async fn prepare_ungrouped(options: ServerOptions) -> Result<Prepared, ServerError> {
    prepare_with(options, Store::open_ungrouped).await
}

async fn prepare_with(
    options: ServerOptions,
    open: fn(&DatabaseUrl) -> Result<Store, StoreError>,
) -> Result<Prepared, ServerError> {
    let ServerOptions { data_dir, listen, database_url, settings, feeds } = options;
    if let Some(complaint) = settings.complaints().into_iter().next() {
        return Err(ServerError::Settings(complaint));
    }
    let names = identity::server_names(listen, &settings.server.names);
    let folder = data_dir.clone();
    // Key making, migrations and the first hash block.
    let (identity, store, passwords) = tokio::task::spawn_blocking(move || {
        identity::prepare_data_dir(&folder)?;
        let url = database_url
            .as_deref()
            .map(DatabaseUrl::parse)
            .transpose()?
            .unwrap_or_else(|| DatabaseUrl::default_in(&folder));
        let identity = Identity::load_or_create(&folder, &names)?;
        Ok::<_, ServerError>((identity, open(&url)?, Passwords::new()?))
    })
    .await
    .map_err(|error| ServerError::Abrupt(error.to_string()))??;
    let administrator = first_administrator(&store, &passwords).await?;
    let connections = settings.server.connections.min(limits::descriptors_for_connections());
    let listener = Listener::bind(listen, identity.tls_config()?, connections)
        .await
        .map_err(|cause| ServerError::Listen { listen, cause })?;
    let listen = listener.address().map_err(|cause| ServerError::Listen { listen, cause })?;
    let announcement = Announcement {
        address: address(listen),
        listen,
        authority_fingerprint: colons(&identity.authority_fingerprint()),
        authority_path: data_dir.join("authority.pem"),
        administrator,
    };
    let state = AppState {
        store,
        identity: Arc::new(identity),
        nudges: Arc::default(),
        live: Arc::default(),
        feeds: Arc::new(feeds),
        settings: Arc::new(settings),
        passwords: Arc::new(passwords),
        packages: Arc::default(),
        intake: Arc::default(),
        started_at: clock::now(),
        shutdown: Shutdown::default(),
    };
    Ok(Prepared { state, listener, announcement })
}

impl Prepared {
    /// What must be said.
    pub fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// What every part holds; for tests that look inside.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Serves until `shutdown` ends, then lets what is open end and rests.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Prepared { state, listener, announcement } = self;
        tracing::info!(server.address = %announcement.address, store.dialect = ?state.store.dialect(), "serving");
        let patience = Duration::from_secs(state.settings.server.shutdown_seconds);
        let mut tasks = spawn_steps(&state, announcement.listen);
        let ending = {
            let state = state.clone();
            async move {
                shutdown.await;
                tracing::info!("stopping: open requests get {} seconds", patience.as_secs());
                state.shutdown.request();
                state.nudges.work.close();
                state.live.close();
            }
        };
        tokio::join!(listener.serve(router(&state), &state.shutdown, patience), ending);
        if tokio::time::timeout(patience, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("a background task did not end in time; what it had not written it will do again");
            tasks.abort_all();
        }
        // The last handle ends the writer after its queue is empty; that blocks.
        tokio::task::spawn_blocking(move || drop(state))
            .await
            .map_err(|error| ServerError::Abrupt(error.to_string()))?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Prepares, says what must be said, serves.
pub async fn run(
    options: ServerOptions,
    announce: impl FnOnce(&Announcement),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let prepared = prepare(options).await?;
    announce(prepared.announcement());
    prepared.run(shutdown).await
}

/// Everything behind the port.
fn router(state: &AppState) -> Router {
    Router::new()
        .merge(health::routes())
        .merge(api::router(state))
        .merge(ui::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(axum::middleware::from_fn(headers::add))
        .merge(agent_api::routes(state))
        .with_state(state.clone())
}

/// Programs are answered as programs, people with a page.
async fn not_found(uri: Uri) -> Response {
    let below = |root: &str| uri.path().strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if below("/api") || below("/agent") { api::not_found(uri).await } else { ui::not_found().await }
}

/// The reconcilers and the housekeeping. Each ends by itself at shutdown.
fn spawn_steps(state: &AppState, listen: SocketAddr) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(housekeeping(state.clone(), listen));
    tasks.spawn(crate::census::run(state.clone()));
    tasks.spawn(crate::notify::run(state.clone()));
    tasks.spawn(crate::steps::gathering::run(state.clone()));
    tasks.spawn(crate::steps::silence::run(state.clone()));
    tasks.spawn(crate::steps::change::run(state.clone()));
    tasks.spawn(crate::steps::installation::run(state.clone()));
    tasks.spawn(crate::steps::audit::run(state.clone()));
    tasks.spawn(crate::distribute::run(state.clone()));
    tasks
}

/// Renews the TLS certificate, forgets sessions, tokens and counters whose time is over.
async fn housekeeping(state: AppState, listen: SocketAddr) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            () = state.shutdown.requested() => return,
        }
        let names = identity::server_names(listen, &state.settings.server.names);
        let identity = state.identity.clone();
        match tokio::task::spawn_blocking(move || identity.renew(&names)).await {
            Ok(Err(error)) => tracing::error!(error = %error, "cannot renew the TLS certificate"),
            Ok(Ok(_)) | Err(_) => {}
        }
        if let Err(error) = crate::access::session::forget_ended(&state).await {
            tracing::warn!(error = %error, "cannot forget ended sessions");
        }
        if let Err(error) = crate::ops::change::forget_ended_logs(&state).await {
            tracing::warn!(error = %error, "cannot forget fetched logs whose time is over");
        }
    }
}

/// The first administrator, when there is nobody yet. Two servers that start at once make one.
async fn first_administrator(store: &Store, passwords: &Passwords) -> Result<Option<(String, String)>, ServerError> {
    if store.read(user::count).await? > 0 {
        return Ok(None);
    }
    let one_time = secret::one_time_password()?;
    let now = clock::now();
    let account = user::User {
        id: clock::fresh(),
        name: FIRST_ADMINISTRATOR.to_owned(),
        role: Role::Administrator,
        password: passwords.hash(&one_time).await?,
        password_change_required: true,
        disabled: false,
        created_at: now,
        last_sign_in: None,
        generation: 1,
    };
    let made = store
        .write(move |connection| {
            if user::count(connection)? > 0 {
                return Ok(false);
            }
            user::create(connection, &account)?;
            let detail = json!({ "role": account.role.as_str() });
            audit::append(connection, now, &Actor::server().record("user.create", &account.name, detail))?;
            Ok(true)
        })
        .await;
    match made {
        Ok(true) => Ok(Some((FIRST_ADMINISTRATOR.to_owned(), one_time))),
        Ok(false) | Err(StoreError::Duplicate { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A new one-time password for a user, without the server: for who lost the last one. Needs the
/// data directory (or the database URL), which only the administrator of the machine has.
pub fn reset_password(
    data_dir: &std::path::Path,
    database_url: Option<&str>,
    name: &str,
) -> Result<String, ServerError> {
    let store = open_existing(data_dir, database_url)?;
    let one_time = secret::one_time_password()?;
    let hash = password::hash_now(&one_time)?;
    let name = name.to_owned();
    let now = clock::now();
    store.write_blocking(move |connection| {
        let mut account = user::get(connection, &name)?.ok_or_else(|| StoreError::not_found(format!("user {name}")))?;
        account.password = hash;
        account.password_change_required = true;
        account.disabled = false;
        user::update(connection, &account)?;
        crate::access::session::end_all(connection, account.id)?;
        audit::append(
            connection,
            now,
            &Actor::server().record("user.reset-password", &name, json!({ "by": "command on the server's machine" })),
        )
    })?;
    Ok(one_time)
}

/// The database of a server that was set up before: a mistyped folder is told, and not filled.
pub(crate) fn open_existing(data_dir: &std::path::Path, database_url: Option<&str>) -> Result<Store, StoreError> {
    let url = database_url.map(DatabaseUrl::parse).transpose()?.unwrap_or_else(|| DatabaseUrl::default_in(data_dir));
    if let DatabaseUrl::Sqlite(path) = &url {
        if !std::path::Path::new(path).exists() {
            return Err(StoreError::not_found(format!("the database {path} (no server was set up there)")));
        }
    }
    Store::open(&url)
}

fn address(listen: SocketAddr) -> String {
    let port = listen.port();
    if listen.ip().is_unspecified() { format!("https://localhost:{port}") } else { format!("https://{listen}") }
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
