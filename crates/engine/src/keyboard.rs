//! Keys, pointer and typed text on their way to a guest.

use std::time::Duration;

use qapi::qmp::{InputAxis, InputButton, InputEvent as QemuEvent};
use voidvm_model::input::{InputEvent, KeyCode, PointerButton, WheelDirection};
use voidvm_model::{ErrorBody, ErrorCode};
use voidvm_qemu::keys::{self, COMBINATION_MAX, Edge, TEXT_MAX};
use voidvm_qemu::qmp::Qmp;

/// Between two typed characters: a guest's keyboard buffer is short, and a translated guest slow to empty it.
const STROKE: Duration = Duration::from_millis(8);

/// Presses keys together, in order, and lets them go.
pub(crate) async fn press(qmp: &Qmp, names: &[String]) -> Result<(), ErrorBody> {
    if names.is_empty() || names.len() > COMBINATION_MAX {
        return Err(ErrorBody::invalid("keys", "That many keys cannot be pressed together.")
            .with_hint(format!("Name 1 to {COMBINATION_MAX} keys.")));
    }
    let keys: Result<Vec<_>, _> = names.iter().map(|name| keys::parse(name)).collect();
    let keys = keys.map_err(|error| error.body())?;
    qmp.execute(&keys::press(&keys)).await.map(drop).map_err(|error| error.body())
}

/// Types a text on a US keyboard.
pub(crate) async fn type_text(qmp: &Qmp, text: &str) -> Result<(), ErrorBody> {
    if text.chars().count() > TEXT_MAX {
        return Err(ErrorBody::invalid("text", "The text is too long to be typed.")
            .with_hint("Type at most 10,000 characters at a time."));
    }
    let strokes = keys::type_text(text).map_err(|error| error.body())?;
    for stroke in &strokes {
        qmp.execute(&keys::press(stroke)).await.map_err(|error| error.body())?;
        tokio::time::sleep(STROKE).await;
    }
    Ok(())
}

/// Delivers what a person did, in order.
pub(crate) async fn deliver(qmp: &Qmp, events: Vec<InputEvent>) -> Result<(), ErrorBody> {
    let mut sent = Vec::with_capacity(events.len());
    for event in events {
        translate(event, &mut sent)?;
    }
    if sent.is_empty() {
        return Ok(());
    }
    qmp.execute(&keys::send(sent)).await.map(drop).map_err(|error| error.body())
}

const fn edge(down: bool) -> Edge {
    if down { Edge::Down } else { Edge::Up }
}

fn translate(event: InputEvent, sent: &mut Vec<QemuEvent>) -> Result<(), ErrorBody> {
    match event {
        InputEvent::Key { code, down } => sent.push(keys::key_event(key(&code)?, edge(down))),
        InputEvent::Pointer { x, y } => {
            sent.push(keys::pointer_axis(InputAxis::x, x));
            sent.push(keys::pointer_axis(InputAxis::y, y));
        }
        InputEvent::Button { button, down } => {
            let button = match button {
                PointerButton::Left => InputButton::left,
                PointerButton::Middle => InputButton::middle,
                PointerButton::Right => InputButton::right,
                PointerButton::Side => InputButton::side,
                PointerButton::Extra => InputButton::extra,
            };
            sent.push(keys::button_event(button, edge(down)));
        }
        InputEvent::Wheel { direction } => {
            let button = match direction {
                WheelDirection::Up => InputButton::wheel_up,
                WheelDirection::Down => InputButton::wheel_down,
                WheelDirection::Left => InputButton::wheel_left,
                WheelDirection::Right => InputButton::wheel_right,
            };
            sent.push(keys::button_event(button, Edge::Down));
            sent.push(keys::button_event(button, Edge::Up));
        }
    }
    Ok(())
}

fn key(code: &KeyCode) -> Result<qapi::qmp::QKeyCode, ErrorBody> {
    keys::parse(code.as_str()).map_err(|error| ErrorBody::new(ErrorCode::InvalidInput, error.to_string()))
}
