//! The one command through which the page reaches the engine: a name of the contract and its request.

use serde_json::Value;
use tauri::State;
use voidvm_model::ErrorBody;

use voidvm_tray::Engine;

/// Carries out the contract's command `name`.
///
/// # Errors
/// The error shape that every transport has.
#[tauri::command]
pub(crate) async fn rpc(engine: State<'_, Engine>, name: String, payload: Value) -> Result<Value, ErrorBody> {
    let reply = engine.call(&name, payload).await?;
    // The one reply with addresses in it: the page cannot reach the owner's paths.
    if name == "vm.console" { engine.reachable(reply).await } else { Ok(reply) }
}
