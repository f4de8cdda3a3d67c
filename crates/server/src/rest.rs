//! The REST routes: one for each command of the contract, and `POST /rpc/{name}` for clients that have the contract's names.
//!
//! A request is its path, its query and its JSON body put together; fields of the path win.

use axum::Extension;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, RawPathParams, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodFilter, on, post};
use serde_json::{Map, Value};
use voidvm_host::payload::Payload;
use voidvm_host::{Caller, dispatch};
use voidvm_model::contract::{COMMANDS, CommandInfo, HttpMethod, command};
use voidvm_model::{ErrorBody, ErrorCode};

use crate::envelope::{Refusal, success};
use crate::guard::{App, Identity};

/// The largest request, in bytes.
pub(crate) const BODY_MAX: usize = 1 << 20;

/// A route for each command, below `/api/v1`.
pub(crate) fn routes() -> Router<App> {
    let router = Router::new().route("/rpc/{name}", post(rpc));
    COMMANDS.iter().fold(router, |router, info| {
        let (filter, has_body) = match info.method {
            HttpMethod::Get => (MethodFilter::GET, false),
            HttpMethod::Delete => (MethodFilter::DELETE, false),
            HttpMethod::Post => (MethodFilter::POST, true),
            HttpMethod::Put => (MethodFilter::PUT, true),
        };
        let handler = move |app: State<App>,
                            identity: Extension<Identity>,
                            path: RawPathParams,
                            Query(query): Query<Vec<(String, String)>>,
                            headers: HeaderMap,
                            body: Result<Bytes, BytesRejection>| async move {
            let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let payload = if has_body {
                let mut object = match read_json(&headers, body)? {
                    Value::Null => Map::new(),
                    Value::Object(object) => object,
                    _ => return Err(Refusal(not_an_object())),
                };
                object.extend(path.map(|(name, value)| (name, Value::String(value))));
                Payload::Json(Value::Object(object))
            } else {
                // The path comes last and wins.
                let names: Vec<(String, String)> = path.collect();
                let own = |name: &String| names.iter().any(|(taken, _)| taken == name);
                let query: Vec<_> = query.into_iter().filter(|(name, _)| !own(name)).collect();
                Payload::Pairs(query.into_iter().chain(names).collect())
            };
            run(app.0, identity.0, info, payload).await
        };
        router.route(info.path, on(filter, handler))
    })
}

async fn rpc(
    State(app): State<App>,
    Extension(identity): Extension<Identity>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let Some(info) = command(&name) else {
        return Err(
            ErrorBody::new(ErrorCode::UnknownCommand, format!("There is no command {name:?}.")).into()
        );
    };
    let payload = Payload::Json(read_json(&headers, body)?);
    run(app, identity, info, payload).await
}

async fn run(
    app: App,
    identity: Identity,
    info: &CommandInfo,
    payload: Payload,
) -> Result<Response, Refusal> {
    identity.require(info.scope)?;
    let answer = dispatch(&app.host, info.name, payload, &Caller::new(identity.origin)).await?;
    Ok(success(answer))
}

fn not_an_object() -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidInput, "The request is not a JSON object.")
}

/// The JSON of a body; `null` when there is none.
pub(crate) fn read_json(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Value, Refusal> {
    let body = body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ErrorBody::new(ErrorCode::InvalidInput, "The request is larger than 1 MiB.")
        } else {
            ErrorBody::new(ErrorCode::NetworkFailed, "The request ended early.")
        }
    })?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A form of a foreign page can send any bytes, but not with this type.
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(ErrorBody::new(ErrorCode::InvalidInput, "The request is not JSON.")
            .with_hint("Send Content-Type: application/json.")
            .into());
    }
    serde_json::from_slice(&body).map_err(|error| {
        ErrorBody::new(ErrorCode::InvalidInput, format!("The request is not JSON: {error}.")).into()
    })
}
