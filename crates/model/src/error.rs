//! One error shape for every transport, and the closed set of its codes.
//!
//! HTTP status and process exit code come from the one table in this file. The UI and the tests switch on the code, never on
//! the text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $http:literal, $exit:literal, $class:ident;)*) => {
        /// What went wrong, as a closed set. The wire form is `snake_case`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[doc = $doc])* $name,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The HTTP status this code has on the REST interface.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The exit code `voidvm` ends with.
            #[must_use]
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// The class of the design's error taxonomy (scope S19).
            #[must_use]
            pub const fn class(self) -> ErrorClass {
                match self { $(Self::$name => ErrorClass::$class,)* }
            }
        }
    };
}

/// The families of errors (scope S19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request itself is wrong.
    Validation,
    /// Nobody is signed in.
    Authentication,
    /// Somebody is, and may not.
    Authorization,
    /// The thing is not there.
    NotFound,
    /// QEMU or its tools failed.
    Qemu,
    /// The store failed.
    Database,
    /// Something across a socket failed.
    Network,
    /// This computer failed, or the program did.
    System,
}

error_codes! {
    /// A field of the request does not hold: `field` names it.
    InvalidInput = 400, 2, Validation;
    /// No command of that name, or no route.
    UnknownCommand = 404, 2, Validation;
    /// Another machine has this name.
    NameTaken = 409, 3, Validation;
    /// The machine's state does not allow it now.
    InvalidState = 409, 3, Validation;
    /// Another operation on this machine is in the way.
    Busy = 409, 3, Validation;
    /// Something else holds the host port.
    PortInUse = 409, 3, Validation;
    /// The file is used by another machine.
    FileInUse = 409, 3, Validation;
    /// The request needs a yes that was not given.
    ConfirmationRequired = 409, 3, Validation;
    /// No machine of that id or name.
    VmNotFound = 404, 4, NotFound;
    /// No operation of that id.
    OperationNotFound = 404, 4, NotFound;
    /// Anything else that is not there.
    NotFound = 404, 4, NotFound;
    /// No or a wrong token.
    Unauthenticated = 401, 5, Authentication;
    /// The token's scope does not reach this far, or the origin is a foreign one.
    Forbidden = 403, 5, Authorization;
    /// Too many requests in the window.
    RateLimited = 429, 6, Network;
    /// Linked clones stand on it: `details.children` names them.
    HasChildren = 409, 3, Validation;
    /// A checksum or signature does not fit the file.
    ChecksumMismatch = 422, 7, Validation;
    /// A program voidVM needs for this is not installed: `details.program`.
    ProgramMissing = 503, 9, System;
    /// The file of an image is not there.
    ImageMissing = 422, 7, Validation;
    /// The file is no disk image or ISO, or a broken one.
    ImageInvalid = 422, 7, Validation;
    /// The machine wants more memory than the host has.
    NotEnoughMemory = 422, 8, System;
    /// The disk that would be written to is full.
    DiskFull = 507, 8, System;
    /// A directory or file cannot be written to.
    ReadOnly = 500, 8, System;
    /// A directory or file may not be read or written by this user.
    PermissionDenied = 500, 8, System;
    /// No QEMU on this computer.
    QemuNotFound = 503, 9, Qemu;
    /// A QEMU below the oldest one supported.
    QemuTooOld = 503, 9, Qemu;
    /// QEMU ended, or refused, with its own words in `details.stderr`.
    QemuFailed = 502, 10, Qemu;
    /// QEMU is there and does not answer.
    QemuUnresponsive = 504, 10, Qemu;
    /// A program beside QEMU (TPM, folder, network) ended: `details.program`, its own words in `details.stderr`.
    CompanionFailed = 502, 10, Qemu;
    /// `qemu-img` failed, with its own words in `details.stderr`.
    QemuImgFailed = 502, 10, Qemu;
    /// The firmware this machine asks for is not installed.
    FirmwareMissing = 503, 9, Qemu;
    /// The chosen acceleration does not work here.
    AccelUnavailable = 503, 9, Qemu;
    /// The guest has not shut down before the deadline.
    GuestDidNotStop = 504, 11, Qemu;
    /// The guest agent is not there or does not answer.
    AgentUnavailable = 503, 11, Qemu;
    /// The console could not be opened or is gone.
    ConsoleUnavailable = 503, 11, Qemu;
    /// The operation was cancelled by somebody.
    Cancelled = 409, 12, System;
    /// The app ended while the operation ran.
    Interrupted = 500, 12, System;
    /// Something took longer than its deadline.
    Timeout = 504, 12, System;
    /// The store was written by a newer voidVM.
    DatabaseNewer = 500, 13, Database;
    /// The store cannot be read or written.
    DatabaseFailed = 500, 13, Database;
    /// Another voidVM owns the data directory and does not answer.
    OwnerUnreachable = 503, 14, Network;
    /// A configuration file or variable is wrong: `field` names the key.
    ConfigInvalid = 500, 15, Validation;
    /// The OS keychain refuses.
    KeychainUnavailable = 503, 15, System;
    /// The signature or content of an update does not hold.
    UpdateRejected = 502, 16, Network;
    /// The other end of a connection failed.
    NetworkFailed = 502, 16, Network;
    /// This build or this host cannot do that.
    Unsupported = 501, 17, System;
    /// A defect of voidVM; the trace id finds it in the log.
    Internal = 500, 1, System;
}

/// What every failure looks like, on every transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What to switch on.
    pub code: ErrorCode,
    /// One sentence for a person, in English; the UI has its own words per code.
    pub message: String,
    /// The request's field that is wrong, in wire form (`spec.memory`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub field: Option<String>,
    /// What to do about it, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hint: Option<String>,
    /// Facts beside the sentence (`stderr`, `path`, `needed`, `available` …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Record<string, unknown>")]
    pub details: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether the same request may work later, unchanged.
    pub retryable: bool,
    /// Finds the request in the log.
    pub trace_id: String,
}

impl ErrorBody {
    /// An error with a code and a sentence; the rest is added by the `with_` methods.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            hint: None,
            details: None,
            retryable: matches!(
                code,
                ErrorCode::Busy
                    | ErrorCode::RateLimited
                    | ErrorCode::Timeout
                    | ErrorCode::QemuUnresponsive
                    | ErrorCode::OwnerUnreachable
                    | ErrorCode::NetworkFailed
            ),
            trace_id: uuid::Uuid::now_v7().simple().to_string(),
        }
    }

    /// The request's `field` does not hold, for the reason in `message`.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidInput, message).with_field(field)
    }

    /// Names the field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }
}

impl std::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ErrorBody {}
