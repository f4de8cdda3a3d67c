//! One-use addresses of consoles.
//!
//! A browser cannot put a token into a WebSocket's headers, and a token in an address ends up in logs. So whoever may open a
//! console asks for a ticket first; it names one console, is good for one connection within 30 seconds, and is guessed by nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;
use voidvm_model::VmId;

/// How long a ticket is good for.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// The most tickets held at a time; the oldest give way.
const MOST: usize = 256;

/// Which console of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConsoleKind {
    /// The display.
    Screen,
    /// The first serial port.
    Serial,
}

/// The tickets that are out. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tickets {
    out: Arc<Mutex<HashMap<String, Ticket>>>,
}

#[derive(Clone, Copy, Debug)]
struct Ticket {
    vm: VmId,
    kind: ConsoleKind,
    until: Instant,
}

impl Tickets {
    /// A new ticket: 64 hexadecimal digits.
    #[must_use]
    pub fn issue(&self, vm: VmId, kind: ConsoleKind) -> String {
        self.issue_at(vm, kind, Instant::now())
    }

    /// What the ticket is for; it is used up. `None` when it never was, has been used, or is too old.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<(VmId, ConsoleKind)> {
        self.redeem_at(ticket, Instant::now())
    }

    fn issue_at(&self, vm: VmId, kind: ConsoleKind, now: Instant) -> String {
        let name = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.retain(|_, ticket| ticket.until > now);
        if out.len() >= MOST
            && let Some(oldest) =
                out.iter().min_by_key(|(_, ticket)| ticket.until).map(|(name, _)| name.clone())
        {
            out.remove(&oldest);
        }
        out.insert(name.clone(), Ticket { vm, kind, until: now + LIFETIME });
        name
    }

    fn redeem_at(&self, ticket: &str, now: Instant) -> Option<(VmId, ConsoleKind)> {
        let found = self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)?;
        (found.until > now).then_some((found.vm, found.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_opens_one_console_once() {
        let tickets = Tickets::default();
        let vm = VmId::new();
        let ticket = tickets.issue(vm, ConsoleKind::Serial);
        assert_eq!(ticket.len(), 64);
        assert_eq!(tickets.redeem("something else"), None);
        assert_eq!(tickets.clone().redeem(&ticket), Some((vm, ConsoleKind::Serial)));
        assert_eq!(tickets.redeem(&ticket), None);
    }

    #[test]
    fn an_old_ticket_opens_nothing() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.issue_at(VmId::new(), ConsoleKind::Screen, now);
        assert_eq!(tickets.redeem_at(&ticket, now + LIFETIME), None);
        let ticket = tickets.issue_at(VmId::new(), ConsoleKind::Screen, now);
        assert!(tickets.redeem_at(&ticket, now + LIFETIME - Duration::from_millis(1)).is_some());
    }

    #[test]
    fn the_oldest_give_way() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let first = tickets.issue_at(VmId::new(), ConsoleKind::Screen, now);
        for step in 1..=u64::try_from(MOST).unwrap() {
            let _ = tickets.issue_at(VmId::new(), ConsoleKind::Screen, now + Duration::from_millis(step));
        }
        assert_eq!(tickets.out.lock().unwrap().len(), MOST);
        assert_eq!(tickets.redeem_at(&first, now), None);
    }
}
