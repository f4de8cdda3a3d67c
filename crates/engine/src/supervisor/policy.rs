//! Policy: may this request run, given what is observed of the machine and what was asked for before? Pure: no lock, no clock,
//! no I/O.
//!
//! A machine has a queue of actions, the first of them at work. A request is judged against the state the machine will be in
//! when all before it have succeeded ([`admit`]), and once more against the state it is really in when its turn comes
//! ([`turn`]), because guests do as they please in between.
//!
//! Invariants (property-tested against a model written apart from this):
//! * what is admitted can run if all before it succeed, and what is refused could not;
//! * forcing off is possible whenever there is, or would be, a process, or memory of one on the disk;
//! * after a deletion nothing is admitted.

use voidvm_model::{OperationKind, VmState};

/// Actions that wait for one machine, the one at work included.
pub const QUEUE_MAX: usize = 8;

/// What can be asked of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start the process and the guest.
    Start,
    /// Ask the guest to shut down.
    Stop,
    /// End the process.
    ForceOff,
    /// Hold the guest.
    Pause,
    /// Let it go on.
    Resume,
    /// Press the reset button.
    Reset,
    /// Write its memory to disk and end the process.
    Suspend,
    /// Remove the machine.
    Delete,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] = [
        Self::Start,
        Self::Stop,
        Self::ForceOff,
        Self::Pause,
        Self::Resume,
        Self::Reset,
        Self::Suspend,
        Self::Delete,
    ];

    /// The kind of operation it is recorded as.
    #[must_use]
    pub const fn kind(self) -> OperationKind {
        match self {
            Self::Start => OperationKind::Start,
            Self::Stop => OperationKind::Stop,
            Self::ForceOff => OperationKind::ForceOff,
            Self::Pause => OperationKind::Pause,
            Self::Resume => OperationKind::Resume,
            Self::Reset => OperationKind::Reset,
            Self::Suspend => OperationKind::Suspend,
            Self::Delete => OperationKind::Delete,
        }
    }

    /// Whether it can run in `state`.
    const fn fits(self, state: VmState) -> bool {
        match self {
            Self::Start => {
                matches!(state, VmState::Stopped | VmState::Crashed | VmState::Broken | VmState::Suspended)
            }
            Self::Stop | Self::Reset | Self::Suspend => matches!(state, VmState::Running | VmState::Paused),
            Self::ForceOff => can_be_forced(state),
            Self::Pause => matches!(state, VmState::Running),
            Self::Resume => matches!(state, VmState::Paused),
            Self::Delete => {
                matches!(state, VmState::Stopped | VmState::Crashed | VmState::Broken | VmState::Suspended)
            }
        }
    }

    /// The state after its success; `None`: there is no machine any more.
    const fn leads_to(self, from: VmState) -> Option<VmState> {
        match self {
            Self::Start | Self::Resume => Some(VmState::Running),
            Self::Stop | Self::ForceOff => Some(VmState::Stopped),
            Self::Pause => Some(VmState::Paused),
            Self::Reset => Some(from),
            Self::Suspend => Some(VmState::Suspended),
            Self::Delete => None,
        }
    }

    /// Whether `state` is already what it would bring about.
    const fn is_moot(self, state: VmState) -> bool {
        match self {
            Self::Stop | Self::ForceOff => matches!(state, VmState::Stopped | VmState::Crashed),
            Self::Pause => matches!(state, VmState::Paused),
            Self::Resume => matches!(state, VmState::Running),
            Self::Suspend => matches!(state, VmState::Suspended),
            Self::Start | Self::Reset | Self::Delete => false,
        }
    }
}

/// A process that was identified as the machine's own, or saved memory that can be thrown away.
const fn can_be_forced(state: VmState) -> bool {
    matches!(
        state,
        VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping
            | VmState::Unresponsive
            | VmState::Suspended
    )
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the end of the queue.
    Queue,
    /// The last of the queue already is this; the request is that one.
    Join,
    /// Everything in the queue is given up for it.
    Preempt,
    /// It cannot be.
    Refuse(Refusal),
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The machine is in this state, or will be when its turn comes.
    State(VmState),
    /// This action is in the way.
    Behind(Action),
    /// The machine is being looked for.
    Adopting,
    /// Too many wait already.
    Full,
}

/// Judges a request by the observed `state` and the `queue`, the first of which is at work or about to be.
#[must_use]
pub fn admit(state: VmState, queue: &[Action], request: Action) -> Verdict {
    if state == VmState::Adopting {
        return Verdict::Refuse(Refusal::Adopting);
    }
    if queue.contains(&Action::Delete) {
        return if request == Action::Delete {
            Verdict::Join
        } else {
            Verdict::Refuse(Refusal::Behind(Action::Delete))
        };
    }
    if queue.last() == Some(&request) {
        return Verdict::Join;
    }
    let expected = queue.iter().try_fold(state, |state, action| action.leads_to(state)).unwrap_or(state);
    if request == Action::ForceOff {
        return match (can_be_forced(state) || can_be_forced(expected), queue.is_empty()) {
            (false, _) => Verdict::Refuse(Refusal::State(state)),
            (true, true) => Verdict::Queue,
            (true, false) => Verdict::Preempt,
        };
    }
    if !request.fits(expected) {
        return Verdict::Refuse(queue.last().map_or(Refusal::State(state), |last| Refusal::Behind(*last)));
    }
    if queue.len() >= QUEUE_MAX { Verdict::Refuse(Refusal::Full) } else { Verdict::Queue }
}

/// What an action does when its turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It begins.
    Begin,
    /// There is nothing left to do, and that is a success.
    Moot,
    /// The state does not allow it any more.
    Refuse(VmState),
}

/// Judges the first of the queue by the state the machine is really in.
#[must_use]
pub const fn turn(state: VmState, action: Action) -> Turn {
    if action.fits(state) {
        Turn::Begin
    } else if action.is_moot(state) {
        Turn::Moot
    } else {
        Turn::Refuse(state)
    }
}
