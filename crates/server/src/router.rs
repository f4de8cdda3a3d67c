//! The whole of what is served, put together: the API behind its guard, consoles behind their tickets, the surface's files.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use serde::Deserialize;
use tower_http::compression::CompressionLayer;
use voidvm_model::{ErrorBody, ErrorCode};

use crate::envelope::{Refusal, done};
use crate::guard::{App, Transport, authenticate, check_host, check_page, is_token, unix_now};
use crate::throttle::Client;
use crate::{console, events, rest, session, ui};

const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// Everything, for clients of one transport.
pub(crate) fn router(app: App) -> Router {
    let guarded = rest::routes()
        .route("/events", any(events::events))
        .route("/openapi.json", get(openapi))
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(middleware::from_fn_with_state(app.clone(), authenticate));
    let files = Router::new().fallback(ui::serve).layer(CompressionLayer::new());
    Router::new()
        .route("/api/v1/session", post(sign_in).delete(sign_out))
        .nest("/api/v1", guarded)
        .route("/console/{ticket}", any(console::console))
        .fallback_service(files.with_state(app.clone()))
        .layer(DefaultBodyLimit::max(rest::BODY_MAX))
        .layer(middleware::from_fn(ui::security_headers))
        .with_state(app)
}

async fn no_route(method: Method, OriginalUri(uri): OriginalUri) -> Refusal {
    let message = format!("There is no route {method} {}.", uri.path());
    let error = ErrorBody::new(ErrorCode::UnknownCommand, message);
    Refusal(error.with_hint("The routes are listed at /api/v1/openapi.json."))
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

/// Exchanges the token for a session's cookie.
async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let Transport::Loopback(address) = app.transport else {
        return Err(ErrorBody::new(ErrorCode::Unsupported, "No session is needed here.").into());
    };
    let refused = match check_host(&headers).and_then(|host| check_page(&headers, host)) {
        Ok(_) => {
            let request: Option<SignIn> = serde_json::from_value(rest::read_json(&headers, body)?).ok();
            let (token, _) = app.host.token().get().await?;
            if request.is_some_and(|request| is_token(&request.token, token.reveal())) {
                let value = session::issue(token.reveal(), unix_now())?;
                let cookie = session::begin(&session::cookie_name(address.port()), &value);
                return Ok(([(header::SET_COOKIE, cookie)], done()).into_response());
            }
            ErrorBody::new(ErrorCode::Unauthenticated, "This is not the token.")
                .with_hint("`voidvm serve --print-url` shows it.")
        }
        Err(error) => error,
    };
    app.throttle.count(Client::Stranger, std::time::Instant::now())?;
    Err(refused.into())
}

async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    let Transport::Loopback(address) = app.transport else {
        return Err(ErrorBody::new(ErrorCode::Unsupported, "No session is needed here.").into());
    };
    check_page(&headers, check_host(&headers)?)?;
    let cookie = session::end(&session::cookie_name(address.port()));
    Ok(([(header::SET_COOKIE, cookie)], done()).into_response())
}
