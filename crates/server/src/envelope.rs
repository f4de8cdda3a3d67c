//! The shape of every REST answer: `{code, message, data, timestamp}`, or `{code, message, error, timestamp}` with the error
//! of the contract; `code` is the HTTP status.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use voidvm_host::handlers::Answer;
use voidvm_model::contract::Done;
use voidvm_model::{ErrorBody, ErrorCode};

fn json_response(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // Answers are about this moment, and about somebody.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, text).into_response()
}

/// A success. The answer's text is JSON already and goes in as it is.
pub(crate) fn success(answer: Answer) -> Response {
    let timestamp = Timestamp::now();
    let data = answer.into_text();
    json_response(
        StatusCode::OK,
        format!(r#"{{"code":200,"message":"OK","data":{data},"timestamp":"{timestamp}"}}"#),
    )
}

/// A success that says only that it is one.
pub(crate) fn done() -> Response {
    let body = json!({ "code": 200, "message": "OK", "data": Done::DONE, "timestamp": Timestamp::now() });
    json_response(StatusCode::OK, body.to_string())
}

/// An error as a response.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) ErrorBody);

impl From<ErrorBody> for Refusal {
    fn from(error: ErrorBody) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status =
            StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({
            "code": status.as_u16(),
            "message": error.message,
            "error": error,
            "timestamp": Timestamp::now(),
        });
        let mut response = json_response(status, body.to_string());
        let headers = response.headers_mut();
        match error.code {
            ErrorCode::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ErrorCode::RateLimited => {
                let seconds =
                    error.details.as_ref().and_then(|details| details.get("retryAfterSeconds")?.as_u64());
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.unwrap_or(1)));
            }
            _ => {}
        }
        response
    }
}
