//! From a command's name to its handler. The list of commands is `voidvm_model::for_each_command`; a command without a handler
//! does not compile.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Instrument as _;
#[allow(clippy::wildcard_imports, reason = "the types the contract names, made to be imported so")]
use voidvm_model::contract::commands::*;
use voidvm_model::{ErrorBody, ErrorCode, Origin};

use crate::payload::Payload;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Through which face of the product.
    pub origin: Origin,
    /// Finds the request in the log; the error's trace id is this one.
    pub trace_id: String,
}

impl Caller {
    /// A caller with a trace id of its own.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self { origin, trace_id: uuid::Uuid::now_v7().simple().to_string() }
    }
}

macro_rules! handlers {
    ($(#[doc = $doc:literal] $method:ident $name:literal $kind:ident $http:ident $path:literal $scope:ident:
        $request:ty => $reply:ty;)*) => {
        /// What the engine's host answers, command by command.
        pub trait Handlers: Send + Sync {
            $(
                #[doc = $doc]
                fn $method(
                    &self,
                    request: $request,
                    caller: &Caller,
                ) -> impl Future<Output = Result<$reply, ErrorBody>> + Send;
            )*
        }

        async fn route<H: Handlers>(
            handlers: &H,
            name: &str,
            payload: Payload,
            caller: &Caller,
        ) -> Result<Answer, ErrorBody> {
            match name {
                $($name => {
                    let request = payload.read::<$request>()?;
                    // Boxed: otherwise the future of this function is as large as the largest handler's.
                    answer(&Box::pin(handlers.$method(request, caller)).await?)
                })*
                _ => Err(ErrorBody::new(ErrorCode::UnknownCommand, format!("There is no command {name:?}."))),
            }
        }

        /// Reads a payload as the named command's request; for tests and fuzzing.
        ///
        /// # Errors
        /// As [`dispatch`].
        pub fn check_payload(name: &str, payload: Payload) -> Result<(), ErrorBody> {
            match name {
                $($name => payload.read::<$request>().map(|_| ()),)*
                _ => Err(ErrorBody::new(ErrorCode::UnknownCommand, format!("There is no command {name:?}."))),
            }
        }
    };
}
voidvm_model::for_each_command!(handlers);

/// A reply as JSON text: written once, and carried as it is to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(String);

impl Answer {
    /// The JSON text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    /// The JSON text, parsed.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

fn answer<T: Serialize>(reply: &T) -> Result<Answer, ErrorBody> {
    serde_json::to_string(reply).map(Answer).map_err(|error| {
        ErrorBody::new(ErrorCode::Internal, format!("The answer cannot be written: {error}."))
    })
}

/// Runs the named command.
///
/// # Errors
/// [`ErrorCode::UnknownCommand`], [`ErrorCode::InvalidInput`] with the field when the payload is not the command's request, or
/// what the handler says; always with the caller's trace id.
pub async fn dispatch<H: Handlers>(
    handlers: &H,
    name: &str,
    payload: impl Into<Payload>,
    caller: &Caller,
) -> Result<Answer, ErrorBody> {
    let payload = payload.into();
    let span = tracing::info_span!(
        "command",
        command = name,
        origin = caller.origin.as_str(),
        trace_id = caller.trace_id.as_str()
    );
    async {
        let mut outcome = route(handlers, name, payload, caller).await;
        if let Err(error) = &mut outcome {
            error.trace_id.clone_from(&caller.trace_id);
            report(error);
        }
        outcome
    }
    .instrument(span)
    .await
}

fn report(error: &ErrorBody) {
    let details =
        error.details.as_ref().map(|details| Value::Object(details.clone()).to_string()).unwrap_or_default();
    if error.code.http_status() >= 500 {
        tracing::error!(code = ?error.code, field = error.field.as_deref(), details, "{}", error.message);
    } else {
        tracing::info!(code = ?error.code, field = error.field.as_deref(), details, "refused: {}", error.message);
    }
}

/// Reads a reply as its type: the other side of [`dispatch`].
///
/// # Errors
/// [`ErrorCode::NetworkFailed`] when it is something else: the two ends are of different versions.
pub fn read_reply<T: DeserializeOwned>(reply: Value) -> Result<T, ErrorBody> {
    serde_json::from_value(reply).map_err(|error| {
        ErrorBody::new(ErrorCode::NetworkFailed, format!("The answer is not what was expected: {error}."))
            .with_hint("Another version of voidVM owns this data directory; end it and try again.")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use voidvm_model::contract::COMMANDS;

    use super::*;

    #[test]
    fn what_is_no_request_of_a_command_is_refused_by_field() {
        for command in COMMANDS {
            for wrong in
                [json!("text"), json!([1, 2]), json!({ "id": {}, "name": 1, "path": 1, "settings": 1 })]
            {
                match check_payload(command.name, wrong.clone().into()) {
                    Ok(()) => {
                        // Requests without fields take any object.
                        assert!(wrong.is_object(), "{} took {wrong}", command.name);
                    }
                    Err(error) => {
                        assert_eq!(error.code, ErrorCode::InvalidInput, "{}: {error:?}", command.name);
                    }
                }
            }
        }
        let error = check_payload("vm.explode", Value::Null.into()).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownCommand);
    }
}
