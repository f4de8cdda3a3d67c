//! What is printed: one JSON document for scripts, tables and sentences for people. Results go to standard output, everything
//! else to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;
use voidvm_model::ErrorBody;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person.
    Text,
    /// A script.
    Json,
}

/// Writes to standard output. A reader that has left (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), ErrorBody> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(ErrorBody::new(
            voidvm_model::ErrorCode::Internal,
            format!("The output cannot be written: {error}."),
        )),
    }
}

/// Writes a line to standard output.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), ErrorBody> {
    print(&format!("{text}\n"))
}

/// Writes a document to standard output.
pub(crate) fn document(value: &impl Serialize) -> Result<(), ErrorBody> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => Err(ErrorBody::new(
            voidvm_model::ErrorCode::Internal,
            format!("The output cannot be written: {error}."),
        )),
    }
}

/// Writes a line to standard error, for people only.
pub(crate) fn note(format: Format, text: impl std::fmt::Display) {
    if format == Format::Text {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Whether a person sees what goes to standard error.
pub(crate) fn watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes an error to standard error.
pub(crate) fn error(format: Format, error: &ErrorBody) {
    let mut out = io::stderr().lock();
    if format == Format::Json {
        let text = serde_json::to_string(error).unwrap_or_default();
        let _ = writeln!(out, "{text}");
        return;
    }
    let _ = writeln!(out, "error: {}", error.message);
    if let Some(stderr) =
        error.details.as_ref().and_then(|details| details.get("stderr")).and_then(Value::as_str)
    {
        for line in stderr.lines().rev().take(10).collect::<Vec<_>>().into_iter().rev() {
            let _ = writeln!(out, "  | {line}");
        }
    }
    let problems =
        error.details.as_ref().and_then(|details| details.get("problems")).and_then(Value::as_array);
    for problem in problems.into_iter().flatten().skip(1) {
        if let Some(message) = problem.get("message").and_then(Value::as_str) {
            let _ = writeln!(out, "       {message}");
        }
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(out, "hint:  {hint}");
    }
}

/// A table for people, its columns as wide as the terminal allows.
pub(crate) fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !heads.is_empty() {
        table.set_header(heads.iter().map(|head| head.to_uppercase()));
    }
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>()));
    if let Some(size) = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0) {
        table.set_width(size.ws_col);
    }
    // The style pads each cell on both sides.
    let strip = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
    let lines: Vec<String> = table.lines().map(strip).collect();
    lines.join("\n")
}

/// A guest's words must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\nc");
        let table = table(&["name"], [vec!["x\u{7}".to_owned()]]);
        assert!(table.contains("NAME") && !table.contains('\u{7}'));
    }
}
