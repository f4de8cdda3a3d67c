//! Logs: one JSON object a line, in `combined.log` (everything from the chosen level) and `error.log` (errors alone).
//!
//! Only the owner of a data directory writes them. A file that has grown to [`FILE_MAX`] becomes `combined.1.log`, and so on up
//! to [`FILES_KEPT`]; so the logs take a bounded space. Secrets are cut out here, at the one place where text leaves
//! ([`crate::redact`]). `VOIDVM_LOG` sets what is recorded (`info`, `debug`, `voidvm_engine=trace,info`); on a terminal the
//! `serve` command may also print a short form.

use std::fmt::{self, Write as _};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use voidvm_model::ErrorBody;

use crate::directories::{io_error, private};
use crate::environment::Environment;
use crate::redact::Redactor;

/// A log file's size before it is put aside, in bytes.
pub const FILE_MAX: u64 = 5 << 20;
/// How many files that were put aside are kept, of each log.
pub const FILES_KEPT: u32 = 4;

/// Whether log lines also go to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// No.
    Quiet,
    /// In a short form for people.
    Stderr,
}

/// Begins logging into `directory`. Once per process; later calls change nothing.
///
/// # Errors
/// When the files cannot be opened.
pub fn begin(
    directory: &Path,
    redactor: Redactor,
    environment: &Environment,
    echo: Echo,
) -> Result<(), ErrorBody> {
    private(directory)?;
    let layer = JsonLayer {
        combined: Rotating::open(directory, "combined")?,
        error: Rotating::open(directory, "error")?,
        redactor,
        echo,
    };
    let wanted = environment.get("VOIDVM_LOG").map(|value| value.to_string_lossy().into_owned());
    let filter =
        EnvFilter::try_new(wanted.as_deref().unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call in one process (tests) finds a subscriber in place, which is fine.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(())
}

/// A file that is put aside when it is large.
struct Rotating {
    directory: PathBuf,
    name: &'static str,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    size: u64,
}

impl Rotating {
    fn open(directory: &Path, name: &'static str) -> Result<Self, ErrorBody> {
        let path = directory.join(format!("{name}.log"));
        let open = Self::append(&path).map_err(|error| io_error("open", &path, &error))?;
        Ok(Self { directory: directory.to_owned(), name, open: Mutex::new(open) })
    }

    fn append(path: &Path) -> std::io::Result<Open> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Open { file, size })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(if number == 0 {
            format!("{}.log", self.name)
        } else {
            format!("{}.{number}.log", self.name)
        })
    }

    /// Writes one line. A log that cannot be written (disk full) never fails what it is about.
    fn line(&self, line: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size + line.len() as u64 > FILE_MAX && open.size > 0 {
            for number in (0..FILES_KEPT).rev() {
                let _ = fs::rename(self.path(number), self.path(number + 1));
            }
            if let Ok(fresh) = Self::append(&self.path(0)) {
                *open = fresh;
            }
        }
        if open.file.write_all(line).is_ok() {
            open.size += line.len() as u64;
        }
    }
}

struct JsonLayer {
    combined: Rotating,
    error: Rotating,
    redactor: Redactor,
    echo: Echo,
}

/// Fields of a span, kept with it so that each event below can name them (the trace id above all).
struct SpanFields(Map<String, Value>);

struct Fields<'a> {
    into: &'a mut Map<String, Value>,
    redactor: &'a Redactor,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, text: String) {
        let text = self.redactor.field(field.name(), text);
        self.into.insert(field.name().to_owned(), Value::String(text));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.into.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.into.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.into.insert(field.name().to_owned(), value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Fields { into: &mut fields, redactor: &self.redactor });
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(&mut Fields { into: fields, redactor: &self.redactor });
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Map::new();
        event.record(&mut Fields { into: &mut fields, redactor: &self.redactor });
        let message = match fields.remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), jiff::Timestamp::now().to_string().into());
        line.insert("level".to_owned(), meta.level().as_str().into());
        line.insert("target".to_owned(), meta.target().into());
        line.insert("message".to_owned(), message.clone().into());
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(SpanFields(own)) = span.extensions().get::<SpanFields>() {
                    line.extend(own.clone());
                }
            }
        }
        if self.echo == Echo::Stderr {
            let mut short = format!("{:5} {message}", meta.level().as_str());
            for (name, value) in &fields {
                let _ = write!(short, " {name}={value}");
            }
            short.push('\n');
            let _ = std::io::stderr().write_all(short.as_bytes());
        }
        line.extend(fields);
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return };
        bytes.push(b'\n');
        self.combined.line(&bytes);
        if *meta.level() == Level::ERROR {
            self.error.line(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(directory: &Path) -> JsonLayer {
        let redactor = Redactor::default();
        redactor.add("very-secret-value");
        JsonLayer {
            combined: Rotating::open(directory, "combined").unwrap(),
            error: Rotating::open(directory, "error").unwrap(),
            redactor,
            echo: Echo::Quiet,
        }
    }

    #[test]
    fn lines_are_json_without_secrets() {
        let root = tempfile::tempdir().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer(root.path()));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", trace_id = "abc", session_cookie = "leak-1");
            let _in = span.enter();
            tracing::info!(token = "leak-2", path = "/?token=leak-3", "seen very-secret-value");
            tracing::error!(password = ?Some("leak-4"), count = 3_u64, "failed");
        });
        let combined = fs::read_to_string(root.path().join("combined.log")).unwrap();
        let errors = fs::read_to_string(root.path().join("error.log")).unwrap();
        assert!(!combined.contains("leak-") && !combined.contains("very-secret"), "{combined}");
        let lines: Vec<Value> = combined.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["trace_id"], "abc");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[1]["count"], 3);
        assert_eq!(errors.lines().count(), 1);
    }

    #[test]
    fn logs_take_a_bounded_space() {
        let root = tempfile::tempdir().unwrap();
        let log = Rotating::open(root.path(), "combined").unwrap();
        let line = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            log.line(&line);
        }
        let sizes: Vec<u64> = fs::read_dir(root.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), FILES_KEPT as usize + 1);
        assert!(sizes.iter().all(|size| *size <= FILE_MAX));
    }
}
