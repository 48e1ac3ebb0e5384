//! Every route, the OpenAPI document that describes them, and the gate before them.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{Authority, Peer};
use super::problem::{Failure, Word};
use super::server::Shared;
use super::wire::Problem;
use super::{advise, catalog, check, checkpoint, denials, export, import, keys, list, metrics, status, trace, unusual, usage};
use crate::key::KeyId;

/// The path of the document itself.
const DOCUMENT: &str = "/v1/openapi.json";

/// Every route with its handler. The document is made of the same list.
fn documented() -> OpenApiRouter<Arc<Shared>> {
    let mut info = InfoBuilder::new().title("doorward admin API").version(env!("CARGO_PKG_VERSION")).build();
    info.description = Some(
        "Keys, functions, usage and history, over HTTP/1.1 on the admin Unix socket. Instants are RFC 3339 in UTC. \
         Errors are problem details (RFC 9457) with a stable word in `type`."
            .to_owned(),
    );
    let document = OpenApi::new(info, utoipa::openapi::Paths::new());
    OpenApiRouter::with_openapi(document)
        .routes(routes!(status::status))
        .routes(routes!(list::list, keys::create))
        .routes(routes!(keys::show, keys::edit, keys::delete))
        .routes(routes!(keys::enable))
        .routes(routes!(keys::disable))
        .routes(routes!(keys::copy))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::undelete))
        .routes(routes!(keys::bulk))
        .routes(routes!(catalog::key_history))
        .routes(routes!(catalog::history))
        .routes(routes!(check::head))
        .routes(routes!(check::check))
        .routes(routes!(checkpoint::make, checkpoint::remove))
        .routes(routes!(catalog::functions, catalog::add))
        .routes(routes!(catalog::restrict, catalog::remove))
        .routes(routes!(catalog::function_history))
        .routes(routes!(usage::usage))
        .routes(routes!(denials::denials))
        .routes(routes!(advise::get))
        .routes(routes!(unusual::get))
        .routes(routes!(trace::country))
        .routes(routes!(trace::identify))
        .routes(routes!(trace::explain))
        .routes(routes!(import::import))
        .routes(routes!(export::export))
        .routes(routes!(metrics::metrics))
        .routes(routes!(self_description))
}

/// The OpenAPI 3.1 document.
pub fn openapi() -> OpenApi {
    let mut document = documented().into_openapi();
    let components = document.components.get_or_insert_default();
    let mut schemas = Vec::new();
    <Problem as ToSchema>::schemas(&mut schemas);
    schemas.push((Problem::name().into_owned(), Problem::schema()));
    components.schemas.extend(schemas);
    document
}

/// The router, with the gate before every route, known or not.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .fallback(async |request: Request| no_route(&request))
        .method_not_allowed_fallback(async |request: Request| wrong_method(&request))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), gate))
        .with_state(shared)
}

fn no_route(request: &Request) -> Failure {
    Failure::new(Word::NoRoute, format!("{} is no route; {DOCUMENT} lists them all", path_named(request.uri().path())))
}

fn wrong_method(request: &Request) -> Failure {
    Failure::new(
        Word::MethodNotAllowed,
        format!("{} does not take {}; {DOCUMENT} tells what it takes", path_named(request.uri().path()), method_named(request.method())),
    )
}

/// A request's method and path, as a log and an error may name them.
pub(super) fn named(request: &Request) -> String {
    format!("{} {}", method_named(request.method()), path_named(request.uri().path()))
}

/// A method; one that HTTP itself does not know may be anything.
fn method_named(method: &Method) -> &str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if KNOWN.contains(method) { method.as_str() } else { "…" }
}

/// A path without what only its sender knows: the words of routes and ids of keys are named, all else may be a secret in the wrong place.
fn path_named(path: &str) -> String {
    static WORDS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let paths = openapi().paths.paths;
        paths.keys().flat_map(|path| path.split('/')).filter(|word| !word.starts_with('{')).map(str::to_owned).collect()
    });
    let segments = path.split('/').map(|segment| match WORDS.contains(segment) || segment.parse::<KeyId>().is_ok() {
        true => segment,
        false => "…",
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Lets through who may: any change needs full authority, and what is not known to be a look counts as a change.
async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
        return Failure::new(Word::Internal, "the peer got lost").into_response();
    };
    let needed = if only_looks(&request) { Authority::ReadOnly } else { Authority::Full };
    let authority = shared.state.access.read().authority(peer);
    if authority >= needed {
        return next.run(request).await;
    }
    shared.counters.forbid(peer, &named(&request));
    let answer = forbidden(peer, authority).into_response();
    // What is sent is taken, so that the connection does not break under a caller who is still sending, before the answer is read.
    let rest = Limited::new(request.into_body(), REFUSED_BODY.0).collect();
    let _ = tokio::time::timeout(REFUSED_BODY.1, rest).await;
    answer
}

/// Bytes that are taken of the body of a request that is refused, and how long they are waited for.
const REFUSED_BODY: (usize, Duration) = (64 << 10, Duration::from_secs(1));

/// Routes that take a body, but change nothing.
const LOOKS: [&str; 2] = ["/v1/identify", "/v1/explain"];

/// Whether a request changes nothing, whatever comes of it.
pub(super) fn only_looks(request: &Request) -> bool {
    [Method::GET, Method::HEAD].contains(request.method()) || LOOKS.contains(&request.uri().path())
}

/// The answer to who may not.
pub(super) fn forbidden(peer: &Peer, authority: Authority) -> Failure {
    let who = match &peer.user {
        Some(user) => format!("{user} (uid {})", peer.uid),
        None => format!("uid {}", peer.uid),
    };
    let may = match authority {
        Authority::None => "may not use the admin socket; the configuration's lists of admin users and groups say who may",
        _ => "may only look; the configuration's lists of admin users and groups say who may change",
    };
    Failure::new(Word::Forbidden, format!("{who} {may}"))
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "get_openapi", tag = "daemon",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), ReadProblems)
)]
async fn self_description() -> Result<Response, Failure> {
    // Written once: it takes milliseconds, in which no other request is served.
    static TEXT: LazyLock<Result<Bytes, String>> =
        LazyLock::new(|| openapi().to_json().map(Bytes::from).map_err(|error| format!("the document cannot be written: {error}")));
    let text = TEXT.clone().map_err(|error| Failure::new(Word::Internal, error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// The problems that a look can meet with.
pub(super) struct ReadProblems;

/// The problems that a change can meet with.
pub(super) struct ChangeProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        use Word::{Forbidden, Internal, Invalid, Limit, Malformed, MethodNotAllowed, NotFound, Timeout, TooLarge};
        problems(&[Malformed, Forbidden, NotFound, MethodNotAllowed, Timeout, TooLarge, Invalid, Limit, Internal])
    }
}

impl IntoResponses for ChangeProblems {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&Word::ALL)
    }
}

/// One response for each status, naming the words that share it.
fn problems(words: &[Word]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for word in words.iter().filter(|word| **word != Word::NoRoute) {
        let (name, status, title) = word.describe();
        by_status.entry(status).or_default().push(format!("`{name}`: {title}"));
    }
    let response = |names: &[String]| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        ResponseBuilder::new().description(names.join(" · ")).content("application/problem+json", content).build()
    };
    by_status.into_iter().map(|(status, names)| (status.to_string(), RefOr::T(response(&names)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The table of routes that the interface promises.
    const PROMISED: &[(&str, &str)] = &[
        ("get", "/v1/status"),
        ("get", "/v1/keys"),
        ("post", "/v1/keys"),
        ("get", "/v1/keys/{key}"),
        ("patch", "/v1/keys/{key}"),
        ("delete", "/v1/keys/{key}"),
        ("post", "/v1/keys/{key}/enable"),
        ("post", "/v1/keys/{key}/disable"),
        ("post", "/v1/keys/{key}/copy"),
        ("post", "/v1/keys/{key}/rotate"),
        ("post", "/v1/keys/{key}/revoke"),
        ("post", "/v1/keys/{key}/undelete"),
        ("post", "/v1/keys-bulk"),
        ("get", "/v1/keys/{key}/history"),
        ("get", "/v1/history"),
        ("get", "/v1/history-head"),
        ("post", "/v1/check"),
        ("post", "/v1/checkpoint"),
        ("delete", "/v1/checkpoint"),
        ("get", "/v1/functions"),
        ("post", "/v1/functions"),
        ("patch", "/v1/functions/{name}"),
        ("delete", "/v1/functions/{name}"),
        ("get", "/v1/functions/{name}/history"),
        ("get", "/v1/usage"),
        ("get", "/v1/denials"),
        ("get", "/v1/advise"),
        ("get", "/v1/unusual"),
        ("get", "/v1/country/{address}"),
        ("post", "/v1/identify"),
        ("post", "/v1/explain"),
        ("post", "/v1/import"),
        ("get", "/v1/export"),
        ("get", "/metrics"),
        ("get", "/v1/openapi.json"),
    ];

    fn document() -> Value {
        serde_json::from_str(&openapi().to_json().unwrap()).unwrap()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                found.insert((method.clone(), path.clone()));
                assert!(operation["operationId"].is_string(), "{method} {path}");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
                let problem = &responses["403"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem", "{method} {path}");
                for name in path.split('{').skip(1).map(|part| part.split('}').next().unwrap()) {
                    let parameters = operation["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"), "{method} {path}: {name}");
                }
            }
        }
        let promised = PROMISED.iter().map(|(method, path)| (method.to_string(), path.to_string())).collect();
        assert_eq!(found, promised);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        let document = document();
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
        for (path, field) in [("KeyView", "unknown_country"), ("CreateBody", "request_id"), ("Patch", "add_tags"), ("Problem", "detail")] {
            assert!(document["components"]["schemas"][path]["properties"][field].is_object(), "{path}.{field}");
        }
    }

    /// Only words that are ours and ids: a token that somebody puts into an address must not stand in the log.
    #[test]
    fn what_a_log_names_of_a_request_is_no_secret() {
        let id = KeyId::generate();
        let request = |method: &str, path: &str| Request::builder().method(method).uri(path).body(axum::body::Body::empty()).unwrap();
        for (method, path, shown) in [
            ("GET", format!("/v1/keys/{id}/history?x=canary"), format!("GET /v1/keys/{id}/history")),
            ("DELETE", "/v1/keys/canary-7d1f".to_owned(), "DELETE /v1/keys/…".to_owned()),
            ("GET", "/canary/v1//metrics".to_owned(), "GET /…/v1//metrics".to_owned()),
            ("CANARY7D1F", "/v1/openapi.json".to_owned(), "… /v1/openapi.json".to_owned()),
        ] {
            assert_eq!(named(&request(method, &path)), shown);
        }
    }

    /// The schema of `Patch` is written beside it, not derived from it: each must know the fields of the other.
    #[test]
    fn the_schemas_of_lower_rooms_have_their_fields() {
        let document = document();
        let names =
            |schema: &str| document["components"]["schemas"][schema]["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        fn expected(error: String) -> Vec<String> {
            let listed = error.split("expected").nth(1).unwrap().to_owned();
            let mut names: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            names.sort();
            names
        }
        let patch = serde_json::from_str::<crate::catalog::change::Patch>(r#"{"?":1}"#).unwrap_err().to_string();
        assert_eq!(names("Patch"), expected(patch));
        let selection = serde_json::from_str::<crate::catalog::change::Selection>(r#"{"?":1}"#).unwrap_err().to_string();
        assert_eq!(names("Selection"), expected(selection));
        let bulk = serde_json::from_str::<super::super::wire::BulkBody>(r#"{"?":1}"#).unwrap_err().to_string();
        assert_eq!(names("BulkBody"), expected(bulk));
    }
}
