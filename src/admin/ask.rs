//! What a handler has in hand: the daemon's parts, the peer, the headers; and the ways to read, change and answer.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tracing::error;

use super::access::Peer;
use super::body;
use super::problem::{Failure, Word};
use super::server::Shared;
use super::view;
use super::wire::KeyView;
use crate::catalog::change::{Change, Made, Reply, Request};
use crate::key::{FunctionName, Instant, Key, KeyId, KeyRef, shown};
use crate::store::Store;

/// A request's surroundings.
pub(super) struct Ask {
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Arc<Peer>,
    pub(super) headers: HeaderMap,
}

impl FromRequestParts<Arc<Shared>> for Ask {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Ask, Failure> {
        let peer = parts.extensions.get::<Arc<Peer>>().cloned().ok_or_else(|| Failure::new(Word::Internal, "the peer got lost"))?;
        Ok(Ask { shared: Arc::clone(shared), peer, headers: parts.headers.clone() })
    }
}

/// The `{key}` of a path.
pub(super) struct KeyPath(pub(super) KeyRef);

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<KeyPath, Failure> {
        Ok(KeyPath(body::key_ref(&segment(parts, state).await?)))
    }
}

/// The `{name}` of a path: a function's.
pub(super) struct FunctionPath(pub(super) FunctionName);

impl<S: Send + Sync> FromRequestParts<S> for FunctionPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<FunctionPath, Failure> {
        let text = segment(parts, state).await?;
        text.parse().map(FunctionPath).map_err(|error| Failure::invalid("name", format!("{error}")))
    }
}

/// The one variable segment of a path, decoded.
pub(super) async fn segment<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, Failure> {
    let path = Path::<String>::from_request_parts(parts, state).await;
    path.map(|Path(text)| text).map_err(|_| Failure::new(Word::Malformed, "the path is not percent-encoded UTF-8"))
}

/// A query string.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asked<T>, Failure> {
        body::query(&parts.uri).map(Asked)
    }
}

impl Ask {
    pub(super) fn now(&self) -> Instant {
        self.shared.state.clock.now()
    }

    /// The revision that `If-Match` asks for.
    pub(super) fn revision(&self) -> Result<Option<u64>, Failure> {
        body::if_match(&self.headers)
    }

    /// Asks the catalog for a change, in the peer's name.
    pub(super) async fn change(&self, change: Change) -> Result<Reply, Failure> {
        let actor = body::actor(&self.peer, &self.headers)?;
        Ok(self.shared.state.catalog.change(Request { actor, change }).await?)
    }

    /// A change of one key, answered with the key.
    pub(super) async fn change_key(&self, change: Change) -> Result<Response, Failure> {
        match self.change(change).await? {
            Reply::Changed(key) => Ok(self.show(StatusCode::OK, &key)),
            other => Err(unexpected(&other)),
        }
    }

    /// A change that makes a key or a secret, answered with it and its token.
    pub(super) async fn make(&self, status: StatusCode, change: Change) -> Result<Response, Failure> {
        match self.change(change).await? {
            Reply::Made(made) => Ok(self.show_made(status, &made)),
            other => Err(unexpected(&other)),
        }
    }

    /// An answer with one key.
    pub(super) fn show(&self, status: StatusCode, key: &Key) -> Response {
        show_view(status, view::key(key, self.now()))
    }

    fn show_made(&self, status: StatusCode, made: &Made) -> Response {
        let status = if made.replayed { StatusCode::OK } else { status };
        // The body holds a token: no cache on the way may keep it.
        let headers = [etag(made.key.revision), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (status, headers, Json(view::made(made, self.now()))).into_response()
    }

    /// Reads much of the store: so many at once for each user, so that nobody has all of the daemon's memory and processors. Others wait for their turn.
    pub(super) async fn search<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let turn = self.shared.searches.turn(self.peer.uid).await;
        self.read(move |store| {
            let _turn = turn;
            read(store)
        })
        .await
    }

    /// Reads from the store, on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.shared.state.catalog.store().clone();
        let running = tokio::task::spawn_blocking(move || read(&store));
        running.await.unwrap_or_else(|error| {
            error!(panicked = error.is_panic(), "admin socket: a read died");
            Err(Failure::new(Word::Internal, "the daemon failed on this request; its log says where"))
        })
    }
}

/// The key that is meant: by name the one that lives, else the one that was deleted last.
pub(super) fn find(store: &Store, key: &KeyRef) -> Result<Key, Failure> {
    let id = match key {
        KeyRef::Id(id) => Some(*id),
        KeyRef::Name { account, name } => match store.find(account, name)? {
            Some(id) => Some(id),
            None => store.find_deleted(account, name)?,
        },
        KeyRef::Neither(text) => {
            let hint = format!(
                "'{text}' names no key: expected an id ('key_' and 32 hexadecimal digits) or account/name, percent-encoded as account%2Fname"
            );
            return Err(Failure::new(Word::NotFound, hint));
        }
    };
    let found = id.map(|id| store.key(id)).transpose()?.flatten();
    found.ok_or_else(|| Failure::new(Word::NotFound, format!("there is no key {key}")))
}

/// The keys of an account, deleted ones included. An account is there if it has any: a name that was mistyped is not silently one of which all is well.
pub(super) fn keys_of_account(store: &Store, account: &str) -> Result<Vec<KeyId>, Failure> {
    let ids = store.ids_of_account(account)?;
    if ids.is_empty() {
        return Err(Failure::new(Word::NotFound, format!("there is no key of an account '{}'", shown(account))).with_field("account"));
    }
    Ok(ids)
}

/// An answer with one key.
pub(super) fn show_view(status: StatusCode, key: KeyView) -> Response {
    (status, [etag(key.revision)], Json(key)).into_response()
}

fn etag(revision: u64) -> (header::HeaderName, HeaderValue) {
    let text = format!("\"{revision}\"");
    (header::ETAG, HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"0\"")))
}

/// The catalog answered a change with what belongs to another: a fault of ours.
pub(super) fn unexpected(reply: &Reply) -> Failure {
    let kind = match reply {
        Reply::Made(_) => "made",
        Reply::Changed(_) => "changed",
        Reply::ChangedMany(_) => "changed many",
        Reply::Imported(_) => "imported",
        Reply::Function { .. } => "function",
    };
    error!(kind, "admin socket: the catalog's reply does not fit the change");
    Failure::new(Word::Internal, "the change was made, but the daemon cannot show it; look it up")
}
