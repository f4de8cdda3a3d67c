//! Schedules: when snapshots are taken, or backups made, without anybody asking, of which machines, and which of them are kept.
//!
//! A schedule's snapshots are those it took, known by their ids; its backups bear its id. Its retention removes those and no
//! others: not what a person took, not another schedule's, not one that is marked to be kept.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::backup::BackupId;
use crate::error::ErrorBody;
use crate::ids::{OperationId, ScheduleId, ScheduleRunId, SnapshotId, VmId};
use crate::units::Bytes;

/// How a schedule names its snapshots where nobody says otherwise.
pub const DEFAULT_NAME_TEMPLATE: &str = "auto_{date}";

/// Which machines a schedule is for. A group's or tag's machines are looked up anew at each run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleTarget {
    /// One machine.
    Vm {
        /// Which.
        id: VmId,
    },
    /// Every machine of a group, together: all of them get their snapshot, or none.
    Group {
        /// Its name.
        name: String,
    },
    /// Every machine with a tag, each for itself.
    Tag {
        /// The tag.
        name: String,
    },
}

/// A time of day, `02:00`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[ts(type = "string")]
pub struct TimeOfDay {
    hour: u8,
    minute: u8,
}

impl TimeOfDay {
    /// 0 to 23.
    #[must_use]
    pub const fn hour(self) -> u8 {
        self.hour
    }

    /// 0 to 59.
    #[must_use]
    pub const fn minute(self) -> u8 {
        self.minute
    }
}

/// Why a text is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time of day: write 00:00 to 23:59")]
pub struct TimeOfDayError(String);

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str, below: u8| {
            let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|number| plain && *number < below)
        };
        text.split_once(':')
            .and_then(|(hour, minute)| {
                let minute = number(minute, 60).filter(|_| minute.len() == 2)?;
                Some(Self { hour: number(hour, 24)?, minute })
            })
            .ok_or_else(|| TimeOfDayError(text.to_owned()))
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = TimeOfDayError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour, self.minute)
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Monday,
    /// Tuesday.
    Tuesday,
    /// Wednesday.
    Wednesday,
    /// Thursday.
    Thursday,
    /// Friday.
    Friday,
    /// Saturday.
    Saturday,
    /// Sunday.
    Sunday,
}

impl Weekday {
    /// As cron writes it.
    #[must_use]
    pub const fn cron(self) -> &'static str {
        match self {
            Self::Monday => "MON",
            Self::Tuesday => "TUE",
            Self::Wednesday => "WED",
            Self::Thursday => "THU",
            Self::Friday => "FRI",
            Self::Saturday => "SAT",
            Self::Sunday => "SUN",
        }
    }
}

/// When a schedule runs. All but [`Recurrence::Cron`] are plain choices with a cron expression behind them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Recurrence {
    /// A cron expression of five fields: minute, hour, day of the month, month, day of the week.
    Cron {
        /// `30 2 * * MON-FRI`; also `L`, `#` and `W` as Quartz has them.
        expression: String,
    },
    /// Every hour.
    Hourly {
        /// At this minute, 0 to 59.
        minute: u8,
    },
    /// Every day.
    Daily {
        /// At this time.
        at: TimeOfDay,
    },
    /// Every week.
    Weekly {
        /// On this day.
        day: Weekday,
        /// At this time.
        at: TimeOfDay,
    },
    /// Every month.
    Monthly {
        /// On this day, 1 to 28; on the last one without.
        #[serde(default)]
        #[ts(optional)]
        day: Option<u8>,
        /// At this time.
        at: TimeOfDay,
    },
}

impl Recurrence {
    /// The cron expression behind it.
    #[must_use]
    pub fn cron(&self) -> String {
        match self {
            Self::Cron { expression } => expression.split_whitespace().collect::<Vec<_>>().join(" "),
            Self::Hourly { minute } => format!("{minute} * * * *"),
            Self::Daily { at } => format!("{} {} * * *", at.minute, at.hour),
            Self::Weekly { day, at } => format!("{} {} * * {}", at.minute, at.hour, day.cron()),
            Self::Monthly { day: Some(day), at } => format!("{} {} {day} * *", at.minute, at.hour),
            Self::Monthly { day: None, at } => format!("{} {} L * *", at.minute, at.hour),
        }
    }
}

/// Which of a schedule's snapshots are kept. Nothing said: all of them.
///
/// As many of the newest as `keepLast` says, and the newest one of each of so many hours, days, weeks (Monday to Sunday), months and
/// years in which there is one, by the schedule's clock. A count that is not reached yet keeps the oldest one as well. The
/// newest of all is always kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct Retention {
    /// So many of the newest.
    #[ts(optional, as = "Option<u32>")]
    pub keep_last: u32,
    /// One of each of so many hours.
    #[ts(optional, as = "Option<u32>")]
    pub hourly: u32,
    /// One of each of so many days.
    #[ts(optional, as = "Option<u32>")]
    pub daily: u32,
    /// One of each of so many weeks.
    #[ts(optional, as = "Option<u32>")]
    pub weekly: u32,
    /// One of each of so many months.
    #[ts(optional, as = "Option<u32>")]
    pub monthly: u32,
    /// One of each of so many years.
    #[ts(optional, as = "Option<u32>")]
    pub yearly: u32,
    /// Space that is to stay free where the machine's disks are: the oldest go for it, whatever else is said.
    pub min_free: Option<Bytes>,
    /// The most snapshots the present may stand on: the oldest go beyond it, whatever else is said.
    pub max_depth: Option<u32>,
}

impl Retention {
    /// Whether a rule says which are kept; without one all are, as far as space and depth allow.
    #[must_use]
    pub const fn has_rules(&self) -> bool {
        self.keep_last != 0
            || self.hourly != 0
            || self.daily != 0
            || self.weekly != 0
            || self.monthly != 0
            || self.yearly != 0
    }
}

/// How a schedule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[ts(optional_fields)]
pub struct ScheduleOptions {
    /// Leave out machines whose guest does not run.
    #[ts(optional, as = "Option<bool>")]
    pub only_when_running: bool,
    /// Leave out machines that have not changed since their last snapshot.
    #[ts(optional, as = "Option<bool>")]
    pub only_when_changed: bool,
    /// Leave a running guest's memory out.
    #[ts(optional, as = "Option<bool>")]
    pub disk_only: bool,
    /// Have the guest's agent freeze its file systems; only with `diskOnly`.
    #[ts(optional, as = "Option<bool>")]
    pub freeze: bool,
    /// Make up, once, for runs that were missed because voidVM did not run or the computer slept; yes without.
    #[ts(optional, as = "Option<bool>")]
    pub catch_up: bool,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        Self {
            only_when_running: false,
            only_when_changed: false,
            disk_only: false,
            freeze: false,
            catch_up: true,
        }
    }
}

/// Where a schedule's backups go. The password of a repository that is encrypted is the keychain's; none is stored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduledBackup {
    /// Absolute path of the repository.
    pub directory: String,
    /// See that each backup comes up, as `backup.drill` does.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub drill: bool,
}

/// A schedule as everybody is shown it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// For people; unique.
    pub name: String,
    /// Of which machines.
    pub target: ScheduleTarget,
    /// When, as it was chosen.
    pub when: Recurrence,
    /// The cron expression that means.
    pub cron: String,
    /// IANA time zone its clock goes by; the computer's, also when that changes, without.
    pub time_zone: Option<String>,
    /// Which snapshots are kept.
    pub retention: Retention,
    /// How it runs.
    pub options: ScheduleOptions,
    /// How its snapshots are called: `{date}`, `{time}`, `{vm}` and `{schedule}` are replaced.
    pub name_template: String,
    /// Where its backups go; it takes snapshots without.
    pub backup: Option<ScheduledBackup>,
    /// Whether it runs by itself.
    pub enabled: bool,
    /// Whether it is at work now.
    pub running: bool,
    /// When it runs next; never while it is not enabled, or when no such day comes.
    #[ts(type = "string | null")]
    pub next_run: Option<Timestamp>,
    /// The last run there was, also one that was left out.
    pub last_run: Option<ScheduleRun>,
    /// Why it cannot run, where it cannot.
    pub trouble: Option<ErrorBody>,
    /// When it was made.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[ts(type = "string")]
    pub updated_at: Timestamp,
}

/// How a run came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// At work.
    Running,
    /// Every machine that was to have a snapshot has one.
    Succeeded,
    /// At least one has none, after all attempts.
    Failed,
    /// There was nothing to do, or it was not done; `skipped` says why.
    Skipped,
    /// voidVM ended in the middle of it.
    Interrupted,
}

impl RunOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Succeeded, Self::Failed, Self::Skipped, Self::Interrupted];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a run, or a machine of it, was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The run before was still at work.
    Overlap,
    /// voidVM did not run, or the computer slept, and the schedule makes up for nothing.
    Missed,
    /// The guest does not run.
    NotRunning,
    /// Nothing has changed since the last snapshot.
    Unchanged,
    /// There is no such machine.
    NoMachine,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Overlap, Self::Missed, Self::NotRunning, Self::Unchanged, Self::NoMachine];

    /// The wire form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Missed => "missed",
            Self::NotRunning => "not_running",
            Self::Unchanged => "unchanged",
            Self::NoMachine => "no_machine",
        }
    }
}

/// One run of a schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleRun {
    /// Its id; sorts by time.
    pub id: ScheduleRunId,
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The instant it was meant for: of several that were missed, the last. Of a run by hand, when it was asked for.
    #[ts(type = "string")]
    pub due_at: Timestamp,
    /// When it began, or was left out.
    #[ts(type = "string")]
    pub started_at: Timestamp,
    /// When it ended.
    #[ts(type = "string | null")]
    pub ended_at: Option<Timestamp>,
    /// How it came out.
    pub outcome: RunOutcome,
    /// Whether it makes up for runs that were missed.
    pub caught_up: bool,
    /// Whether a person asked for it.
    pub by_hand: bool,
    /// How many runs before it were missed and not made up for.
    pub missed: u32,
    /// Why it was left out as a whole, where it was.
    pub skipped: Option<SkipReason>,
    /// What was done, machine by machine.
    pub machines: Vec<MachineRun>,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// Its operation, where there was work to do.
    pub operation_id: Option<OperationId>,
}

/// What a run did to one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachineRun {
    /// The machine.
    pub vm_id: VmId,
    /// Its name at that time.
    pub vm_name: String,
    /// The snapshot that was taken.
    pub snapshot: Option<SnapshotId>,
    /// What it was called.
    pub snapshot_name: Option<String>,
    /// The backup that was made.
    #[serde(default)]
    pub backup: Option<BackupId>,
    /// Why there is none, where there was no need.
    pub skipped: Option<SkipReason>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// Names of the snapshots that retention removed after it; of backups the beginning of their ids.
    pub pruned: Vec<String>,
}

/// A new schedule; also a draft to be previewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleCreateRequest {
    /// For people; unique.
    pub name: String,
    /// Of which machines.
    pub target: ScheduleTarget,
    /// When.
    pub when: Recurrence,
    /// IANA time zone; the computer's without.
    #[serde(default)]
    #[ts(optional)]
    pub time_zone: Option<String>,
    /// Which snapshots are kept; all of them without.
    #[serde(default)]
    #[ts(optional, as = "Option<Retention>")]
    pub retention: Retention,
    /// How it runs.
    #[serde(default)]
    #[ts(optional, as = "Option<ScheduleOptions>")]
    pub options: ScheduleOptions,
    /// How its snapshots are called; `auto_{date}` without, with the time where that is needed.
    #[serde(default)]
    #[ts(optional)]
    pub name_template: Option<String>,
    /// Make backups there; it takes snapshots without.
    #[serde(default)]
    #[ts(optional)]
    pub backup: Option<ScheduledBackup>,
    /// Whether it runs by itself; yes without.
    #[serde(default)]
    #[ts(optional)]
    pub enabled: Option<bool>,
}

/// Changes of a schedule; what is left out stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleUpdateRequest {
    /// The schedule.
    pub id: ScheduleId,
    /// Another name.
    #[serde(default)]
    #[ts(optional)]
    pub name: Option<String>,
    /// Other machines.
    #[serde(default)]
    #[ts(optional)]
    pub target: Option<ScheduleTarget>,
    /// Other times.
    #[serde(default)]
    #[ts(optional)]
    pub when: Option<Recurrence>,
    /// Another time zone; an empty text is the computer's.
    #[serde(default)]
    #[ts(optional)]
    pub time_zone: Option<String>,
    /// Another retention, as a whole.
    #[serde(default)]
    #[ts(optional)]
    pub retention: Option<Retention>,
    /// Other options, as a whole.
    #[serde(default)]
    #[ts(optional)]
    pub options: Option<ScheduleOptions>,
    /// Other names of its snapshots.
    #[serde(default)]
    #[ts(optional)]
    pub name_template: Option<String>,
    /// Make backups there; with an empty directory, take snapshots.
    #[serde(default)]
    #[ts(optional)]
    pub backup: Option<ScheduledBackup>,
    /// Whether it runs by itself.
    #[serde(default)]
    #[ts(optional)]
    pub enabled: Option<bool>,
}

/// Which schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleRef {
    /// The schedule.
    pub id: ScheduleId,
}

/// A page of a schedule's runs, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleRunsRequest {
    /// The schedule.
    pub id: ScheduleId,
    /// Older than this run.
    #[serde(default)]
    #[ts(optional)]
    pub before: Option<ScheduleRunId>,
    /// How many, 1 to 500; 50 without.
    #[serde(default)]
    #[ts(optional)]
    pub limit: Option<u32>,
}

/// Look at what a schedule would do: one that is stored, a draft, or a stored one as the draft would have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulePreviewRequest {
    /// A stored schedule; its snapshots are the ones that are judged.
    #[serde(default)]
    #[ts(optional)]
    pub id: Option<ScheduleId>,
    /// What it would be like.
    #[serde(default)]
    #[ts(optional)]
    pub draft: Option<ScheduleCreateRequest>,
}

/// What a schedule would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SchedulePreview {
    /// The cron expression.
    pub cron: String,
    /// The time zone its clock goes by.
    pub time_zone: String,
    /// Its next runs, ten at most.
    pub runs: Vec<PlannedRun>,
    /// What retention would do to each machine's snapshots if it were asked now.
    pub machines: Vec<MachinePreview>,
}

/// A run to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRun {
    /// When.
    #[ts(type = "string")]
    pub at: Timestamp,
    /// What the schedule's clock shows then, `2026-11-22T02:00:00+01:00`.
    pub local: String,
    /// Whether the expression names a time that the clock jumps over on that day, and this is the first one after it.
    pub moved: bool,
}

/// What retention would do to one machine's snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct MachinePreview {
    /// The machine.
    pub vm_id: VmId,
    /// Its name.
    pub vm_name: String,
    /// What the next snapshot would be called.
    pub next_name: String,
    /// Its snapshots that are the schedule's, newest first.
    pub snapshots: Vec<SnapshotVerdict>,
    /// Its backups that are the schedule's, newest first.
    pub backups: Vec<BackupVerdict>,
    /// Why they cannot be seen, where they cannot.
    pub trouble: Option<ErrorBody>,
}

/// What retention says of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotVerdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// Its name.
    pub name: String,
    /// The instant it shows.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays, all reasons there are; or why it goes.
    pub reasons: Vec<VerdictReason>,
}

/// What retention says of one backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, TS)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerdict {
    /// The backup.
    pub id: BackupId,
    /// The instant it shows.
    #[ts(type = "string")]
    pub created_at: Timestamp,
    /// Whether it stays.
    pub kept: bool,
    /// Why it stays, all reasons there are; or why it goes.
    pub reasons: Vec<VerdictReason>,
}

/// Why a snapshot or a backup stays or goes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, TS,
)]
#[serde(rename_all = "snake_case")]
pub enum VerdictReason {
    /// Stays: marked to be kept.
    Pinned,
    /// Stays: the newest of all.
    Newest,
    /// Stays: no rule says otherwise.
    NoRule,
    /// Stays: among the last.
    Last,
    /// Stays: the newest of its hour.
    Hourly,
    /// Stays: the newest of its day.
    Daily,
    /// Stays: the newest of its week.
    Weekly,
    /// Stays: the newest of its month.
    Monthly,
    /// Stays: the newest of its year.
    Yearly,
    /// Goes: no rule keeps it.
    Superseded,
    /// Goes: the present stands on too many.
    TooDeep,
    /// Goes: space is short.
    LowSpace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_choices_are_cron_expressions() {
        let at: TimeOfDay = "2:05".parse().unwrap();
        assert_eq!(at.to_string(), "02:05");
        for (when, cron) in [
            (Recurrence::Hourly { minute: 7 }, "7 * * * *"),
            (Recurrence::Daily { at }, "5 2 * * *"),
            (Recurrence::Weekly { day: Weekday::Sunday, at }, "5 2 * * SUN"),
            (Recurrence::Monthly { day: Some(1), at }, "5 2 1 * *"),
            (Recurrence::Monthly { day: None, at }, "5 2 L * *"),
            (Recurrence::Cron { expression: " 1  2 * *  * ".to_owned() }, "1 2 * * *"),
        ] {
            assert_eq!(when.cron(), cron);
            let text = serde_json::to_string(&when).unwrap();
            assert_eq!(serde_json::from_str::<Recurrence>(&text).unwrap(), when, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_of_day_is_refused() {
        for wrong in ["", "2", "24:00", "02:60", "2:5", "+2:05", "02:+5", "002:05", "02:05:00", "a:b"] {
            assert!(wrong.parse::<TimeOfDay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schedule_catches_up_unless_it_is_told_not_to() {
        assert!(serde_json::from_str::<ScheduleOptions>("{}").unwrap().catch_up);
        assert!(!serde_json::from_str::<ScheduleOptions>(r#"{"catchUp":false}"#).unwrap().catch_up);
        assert!(!Retention::default().has_rules());
    }
}
