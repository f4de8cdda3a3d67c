//! Notices of the desktop, without a toolkit.

use std::collections::HashMap;

use zbus::Connection;
use zbus::zvariant::Value;

/// The icon's name where the app is installed.
const ICON: &str = "voidvm-desktop";

/// Shows a notice with the app's name and icon.
///
/// # Errors
/// When nobody on the session bus shows notices.
pub async fn show(bus: &Connection, text: &str) -> zbus::Result<()> {
    let hints = HashMap::from([("desktop-entry", Value::from("voidVM"))]);
    let actions: &[&str] = &[];
    let service = "org.freedesktop.Notifications";
    let body = ("voidVM", 0_u32, ICON, "voidVM", text, actions, hints, -1_i32);
    bus.call_method(Some(service), "/org/freedesktop/Notifications", Some(service), "Notify", &body)
        .await
        .map(drop)
}
