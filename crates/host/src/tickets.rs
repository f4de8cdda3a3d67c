//! One-use addresses of consoles: whoever was allowed to ask gets a path nobody can guess, good for one connection and for
//! [`LIFE`]. A WebSocket cannot carry a header, and a path that works once does no harm in a history.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use voidvm_model::{ErrorBody, ErrorCode, VmId};

/// How long a ticket waits to be used.
pub const LIFE: Duration = Duration::from_secs(30);
/// Most tickets that wait at one time; the oldest go first.
const MOST: usize = 1024;

/// What a ticket opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleKind {
    /// The screen, keyboard and pointer.
    Screen,
    /// The serial port.
    Serial,
}

/// The tickets that wait.
#[derive(Debug, Default)]
pub struct Tickets {
    waiting: Mutex<HashMap<String, (VmId, ConsoleKind, Instant)>>,
}

impl Tickets {
    /// Makes a ticket.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] when the system gives no random numbers.
    pub fn issue(&self, id: VmId, kind: ConsoleKind, now: Instant) -> Result<String, ErrorBody> {
        let mut bytes = [0_u8; 24];
        getrandom::fill(&mut bytes).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The system gives no random numbers: {error}."))
        })?;
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, _, issued)| now.duration_since(*issued) < LIFE);
        if waiting.len() >= MOST
            && let Some(oldest) =
                waiting.iter().min_by_key(|(_, (_, _, issued))| *issued).map(|(key, _)| key.clone())
        {
            waiting.remove(&oldest);
        }
        waiting.insert(ticket.clone(), (id, kind, now));
        Ok(ticket)
    }

    /// Uses a ticket up.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`] when it was never issued, was used, or is too old.
    pub fn redeem(&self, ticket: &str, now: Instant) -> Result<(VmId, ConsoleKind), ErrorBody> {
        let found = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket);
        match found {
            Some((id, kind, issued)) if now.duration_since(issued) < LIFE => Ok((id, kind)),
            _ => Err(ErrorBody::new(
                ErrorCode::Unauthenticated,
                "This console address was used, or is too old.",
            )
            .with_hint("Ask for a new one.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_one_console_once_and_soon() {
        let tickets = Tickets::default();
        let now = Instant::now();
        let id = VmId::new();
        let ticket = tickets.issue(id, ConsoleKind::Serial, now).unwrap();
        assert_eq!(tickets.redeem(&ticket, now).unwrap(), (id, ConsoleKind::Serial));
        assert_eq!(tickets.redeem(&ticket, now).unwrap_err().code, ErrorCode::Unauthenticated);
        let late = tickets.issue(id, ConsoleKind::Screen, now).unwrap();
        assert!(tickets.redeem(&late, now + LIFE).is_err());
        assert!(tickets.redeem("made-up", now).is_err());
    }

    #[test]
    fn the_number_of_waiting_tickets_is_bounded() {
        let tickets = Tickets::default();
        let now = Instant::now();
        for _ in 0..MOST + 10 {
            tickets.issue(VmId::new(), ConsoleKind::Screen, now).unwrap();
        }
        assert_eq!(tickets.waiting.lock().unwrap().len(), MOST);
    }
}
