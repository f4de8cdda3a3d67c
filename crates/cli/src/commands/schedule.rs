//! Schedules of snapshots and backups.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use voidvm_model::contract::{Done, Empty};
use voidvm_model::schedule::{
    Recurrence, Retention, RunOutcome, Schedule, ScheduleCreateRequest, ScheduleOptions, SchedulePreview,
    SchedulePreviewRequest, ScheduleRef, ScheduleRun, ScheduleRunsRequest, ScheduleTarget,
    ScheduleUpdateRequest, ScheduledBackup, TimeOfDay, VerdictReason, Weekday,
};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, Operation, VmView};

use super::create::absolute;
use crate::client::Client;
use crate::output::{Format, document, line, printable, table};

/// SCHEDULE is a schedule's name or id. Schedules run while the app or `voidvm serve` does: `voidvm service install` has the
/// engine start with the session, so that they run with no window as well.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// List the schedules.
    List,
    /// Have snapshots of a machine taken, or backups made, again and again.
    Add(Box<Add>),
    /// Show the next ten runs, and which snapshots would be kept and removed now.
    Preview(One),
    /// Show what a schedule did, newest first.
    History(One),
    /// Run a schedule now.
    Run(One),
    /// Have a schedule run by itself again.
    Enable(One),
    /// Have a schedule not run by itself.
    Disable(One),
    /// Forget a schedule; the snapshots it took and the backups it made stay.
    Remove(One),
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Name or id.
    schedule: String,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("when").required(true).args(["cron", "hourly", "daily", "weekly", "monthly"])))]
#[command(group(ArgGroup::new("target").required(true).args(["vm", "group", "tag"])))]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the grammar")]
pub(crate) struct Add {
    /// A machine's name or id.
    vm: Option<String>,
    /// Every machine of a group, together.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Every machine with a tag.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// What the schedule is called; made of the machine and the times without.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Minute, hour, day of the month, month, day of the week: '30 2 * * MON-FRI'.
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,
    /// At each full hour.
    #[arg(long)]
    hourly: bool,
    /// Every day.
    #[arg(long, value_name = "HH:MM")]
    daily: Option<TimeOfDay>,
    /// Every week.
    #[arg(long, num_args = 2, value_names = ["DAY", "HH:MM"])]
    weekly: Option<Vec<String>>,
    /// Every month; DAY is 1 to 28, or last.
    #[arg(long, num_args = 2, value_names = ["DAY", "HH:MM"])]
    monthly: Option<Vec<String>>,
    /// Time zone, Europe/Berlin; the computer's without.
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Which are kept, all of them without: last=7,hourly=24,daily=7,weekly=4,monthly=12,yearly=3.
    #[arg(long, value_name = "RULES", value_parser = rules)]
    keep: Option<Retention>,
    /// Remove the oldest rather than have less space free.
    #[arg(long, value_name = "SIZE")]
    min_free: Option<Bytes>,
    /// Remove the oldest rather than have the present stand on more snapshots.
    #[arg(long, value_name = "N")]
    max_depth: Option<u32>,
    /// Leave out machines whose guest does not run.
    #[arg(long)]
    only_when_running: bool,
    /// Leave out machines that have not changed since their last snapshot.
    #[arg(long)]
    only_when_changed: bool,
    /// Leave a running guest's memory out.
    #[arg(long)]
    disk_only: bool,
    /// Have the guest's agent freeze its file systems.
    #[arg(long, requires = "disk_only")]
    freeze: bool,
    /// Do not make up for missed runs.
    #[arg(long)]
    no_catch_up: bool,
    /// Make backups there instead of snapshots; begin them with `voidvm backup init`. The keychain has the password, where they are
    /// encrypted.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["disk_only", "freeze", "max_depth", "names"])]
    backup: Option<PathBuf>,
    /// See that each backup comes up, before older ones are removed.
    #[arg(long, requires = "backup")]
    drill: bool,
    /// How its snapshots are called: {date}, {time}, {vm} and {schedule} are replaced.
    #[arg(long, value_name = "PATTERN")]
    names: Option<String>,
    /// Do not let it run by itself yet.
    #[arg(long)]
    disabled: bool,
}

/// Reads `last=7,daily=7`.
fn rules(text: &str) -> Result<Retention, String> {
    let mut rules = Retention::default();
    for part in text.split(',') {
        let (name, count) = part.split_once('=').ok_or_else(|| format!("{part:?} is not RULE=COUNT"))?;
        let count = count.parse().map_err(|_| format!("{count:?} is no count"))?;
        *match name.trim() {
            "last" => &mut rules.keep_last,
            "hourly" => &mut rules.hourly,
            "daily" => &mut rules.daily,
            "weekly" => &mut rules.weekly,
            "monthly" => &mut rules.monthly,
            "yearly" => &mut rules.yearly,
            other => {
                return Err(format!(
                    "{other:?} is no rule; choose last, hourly, daily, weekly, monthly, yearly"
                ));
            }
        } = count;
    }
    Ok(rules)
}

fn weekday(text: &str) -> Result<Weekday, ErrorBody> {
    let wanted = text.to_lowercase();
    let days = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let found = days.into_iter().find(|(name, _)| wanted.len() >= 3 && name.starts_with(&wanted));
    found.map(|(_, day)| day).ok_or_else(|| {
        ErrorBody::invalid("weekly", format!("{text:?} is no day of the week."))
            .with_hint("Write monday to sunday, or mon to sun.")
    })
}

fn time(field: &str, text: &str) -> Result<TimeOfDay, ErrorBody> {
    text.parse().map_err(|error| ErrorBody::invalid(field, format!("{error}.")))
}

impl Add {
    fn recurrence(&self) -> Result<Recurrence, ErrorBody> {
        if let Some(expression) = &self.cron {
            return Ok(Recurrence::Cron { expression: expression.clone() });
        }
        if let Some(at) = self.daily {
            return Ok(Recurrence::Daily { at });
        }
        if let Some([day, at]) = self.weekly.as_deref() {
            return Ok(Recurrence::Weekly { day: weekday(day)?, at: time("weekly", at)? });
        }
        if let Some([day, at]) = self.monthly.as_deref() {
            let wrong = |_| {
                ErrorBody::invalid("monthly", format!("{day:?} is no day."))
                    .with_hint("Write 1 to 28, or last.")
            };
            let day = if day == "last" { None } else { Some(day.parse().map_err(wrong)?) };
            return Ok(Recurrence::Monthly { day, at: time("monthly", at)? });
        }
        Ok(Recurrence::Hourly { minute: 0 })
    }

    async fn request(self, client: &Client) -> Result<ScheduleCreateRequest, ErrorBody> {
        let when = self.recurrence()?;
        let backup = self.backup.as_deref().map(|dir| absolute("backup", dir)).transpose()?;
        let backup = backup.map(|directory| ScheduledBackup { directory, drill: self.drill });
        let (target, subject) = match (self.vm, self.group, self.tag) {
            (Some(vm), ..) => {
                let vm = client.find(&vm).await?;
                (ScheduleTarget::Vm { id: vm.id }, vm.name)
            }
            (_, Some(name), _) => (ScheduleTarget::Group { name: name.clone() }, name),
            (_, _, tag) => {
                let name = tag.unwrap_or_default();
                (ScheduleTarget::Tag { name: name.clone() }, name)
            }
        };
        let mut name = self.name.unwrap_or_else(|| format!("{subject} ({})", when.cron()));
        // No more than a name can have.
        name = name.chars().take(100).collect::<String>().trim_end().to_owned();
        Ok(ScheduleCreateRequest {
            name,
            target,
            when,
            time_zone: self.tz,
            retention: Retention {
                min_free: self.min_free,
                max_depth: self.max_depth,
                ..self.keep.unwrap_or_default()
            },
            options: ScheduleOptions {
                only_when_running: self.only_when_running,
                only_when_changed: self.only_when_changed,
                disk_only: self.disk_only,
                freeze: self.freeze,
                catch_up: !self.no_catch_up,
            },
            name_template: self.names,
            backup,
            enabled: Some(!self.disabled),
        })
    }
}

pub(crate) async fn schedule(
    command: ScheduleCommand,
    client: &Client,
    format: Format,
) -> Result<(), ErrorBody> {
    match command {
        ScheduleCommand::List => list(client, format).await,
        ScheduleCommand::Add(args) => {
            let schedule: Schedule = client.call("schedule.create", &args.request(client).await?).await?;
            show(&schedule, format)
        }
        ScheduleCommand::Preview(One { schedule }) => {
            let id = Some(find(client, &schedule).await?.id);
            let request = SchedulePreviewRequest { id, draft: None };
            let preview: SchedulePreview = client.call("schedule.preview", &request).await?;
            if format == Format::Json { document(&preview) } else { describe(&preview) }
        }
        ScheduleCommand::History(One { schedule }) => {
            let id = find(client, &schedule).await?.id;
            let request = ScheduleRunsRequest { id, before: None, limit: None };
            let runs: Vec<ScheduleRun> = client.call("schedule.runs", &request).await?;
            if format == Format::Json { document(&runs) } else { history(runs) }
        }
        ScheduleCommand::Run(One { schedule }) => {
            let id = find(client, &schedule).await?.id;
            let operation: Operation = client.call("schedule.run", &ScheduleRef { id }).await?;
            let operation = client.finish(operation).await?;
            if format == Format::Json {
                return document(&operation);
            }
            let request = ScheduleRunsRequest { id, before: None, limit: Some(1) };
            history(client.call("schedule.runs", &request).await?)
        }
        ScheduleCommand::Enable(One { schedule }) => set(client, &schedule, true, format).await,
        ScheduleCommand::Disable(One { schedule }) => set(client, &schedule, false, format).await,
        ScheduleCommand::Remove(One { schedule }) => {
            let schedule = find(client, &schedule).await?;
            let done: Done = client.call("schedule.delete", &ScheduleRef { id: schedule.id }).await?;
            match format {
                Format::Json => document(&done),
                Format::Text => line(format_args!(
                    "{}: removed; its snapshots and backups stay",
                    printable(&schedule.name)
                )),
            }
        }
    }
}

async fn schedules(client: &Client) -> Result<Vec<Schedule>, ErrorBody> {
    client.call("schedule.list", &Empty::default()).await
}

async fn find(client: &Client, wanted: &str) -> Result<Schedule, ErrorBody> {
    let found =
        schedules(client).await?.into_iter().find(|one| one.name == wanted || one.id.to_string() == wanted);
    found.ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("There is no schedule “{wanted}”."))
            .with_field("schedule")
            .with_hint("See the names with: voidvm schedule list")
    })
}

async fn set(client: &Client, wanted: &str, enabled: bool, format: Format) -> Result<(), ErrorBody> {
    let id = find(client, wanted).await?.id;
    let request = ScheduleUpdateRequest {
        id,
        name: None,
        target: None,
        when: None,
        time_zone: None,
        retention: None,
        options: None,
        name_template: None,
        backup: None,
        enabled: Some(enabled),
    };
    let schedule: Schedule = client.call("schedule.update", &request).await?;
    show(&schedule, format)
}

fn show(schedule: &Schedule, format: Format) -> Result<(), ErrorBody> {
    if format == Format::Json {
        return document(schedule);
    }
    let next = schedule
        .next_run
        .map_or_else(|| "does not run by itself".to_owned(), |at| format!("runs next at {}", local(at)));
    line(format_args!("{}: {next}", printable(&schedule.name)))
}

/// By this computer's clock.
fn local(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %H:%M %Z").to_string()
}

async fn list(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let schedules = schedules(client).await?;
    if format == Format::Json {
        return document(&schedules);
    }
    let vms: Vec<VmView> = client.call("vm.list", &Empty::default()).await?;
    let rows = schedules.into_iter().map(|one| {
        let target = match &one.target {
            ScheduleTarget::Vm { id } => {
                vms.iter().find(|vm| vm.id == *id).map_or_else(|| "(gone)".to_owned(), |vm| vm.name.clone())
            }
            ScheduleTarget::Group { name } => format!("group {name}"),
            ScheduleTarget::Tag { name } => format!("tag {name}"),
        };
        let next = match (one.running, one.next_run) {
            (true, _) => "(at work)".to_owned(),
            (false, Some(at)) => local(at),
            (false, None) if one.enabled => "never".to_owned(),
            (false, None) => "(disabled)".to_owned(),
        };
        let last = one.last_run.as_ref().map(outcome).unwrap_or_default();
        vec![one.name, target, one.cron, one.time_zone.unwrap_or_default(), next, last]
    });
    line(table(&["name", "machines", "cron", "zone", "next", "last"], rows))
}

fn outcome(run: &ScheduleRun) -> String {
    let mut text = match (run.outcome, run.skipped) {
        (RunOutcome::Skipped, Some(why)) => format!("skipped: {}", why.as_str().replace('_', " ")),
        (outcome, _) => outcome.as_str().to_owned(),
    };
    if run.caught_up {
        text.push_str(", made up for");
    }
    if run.missed > 0 {
        text.push_str(&format!(", {} missed", run.missed));
    }
    text
}

fn history(runs: Vec<ScheduleRun>) -> Result<(), ErrorBody> {
    let rows = runs.into_iter().map(|run| {
        let names = |pick: &dyn Fn(&voidvm_model::schedule::MachineRun) -> Vec<String>| {
            run.machines.iter().flat_map(pick).collect::<Vec<_>>().join(", ")
        };
        let taken =
            names(&|one| one.snapshot_name.iter().map(|name| format!("{}: {name}", one.vm_name)).collect());
        let backups = names(&|one| one.backup.iter().map(|id| format!("{}: {id:.8}", one.vm_name)).collect());
        let taken = if taken.is_empty() { backups } else { taken };
        let pruned = names(&|one| one.pruned.clone());
        let why = run.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        vec![local(run.due_at), outcome(&run), taken, pruned, why]
    });
    line(table(&["due", "outcome", "taken", "removed", "why"], rows))
}

fn describe(preview: &SchedulePreview) -> Result<(), ErrorBody> {
    line(format_args!("{}  ({})", preview.cron, preview.time_zone))?;
    for run in &preview.runs {
        let moved = if run.moved { "  (the clock jumps over its time)" } else { "" };
        line(format_args!("  {}{moved}", run.local.replace('T', " ")))?;
    }
    for machine in &preview.machines {
        line(format_args!("\n{}: next {}", printable(&machine.vm_name), printable(&machine.next_name)))?;
        if let Some(trouble) = &machine.trouble {
            line(format_args!("  {}", printable(&trouble.message)))?;
        }
        let rows = machine.snapshots.iter().map(|one| {
            let verdict = if one.kept { "keep" } else { "remove" };
            let reasons: Vec<&str> = one.reasons.iter().copied().map(reason).collect();
            vec![verdict.to_owned(), one.name.clone(), local(one.created_at), reasons.join(", ")]
        });
        let backups = machine.backups.iter().map(|one| {
            let verdict = if one.kept { "keep" } else { "remove" };
            let reasons: Vec<&str> = one.reasons.iter().copied().map(reason).collect();
            vec![verdict.to_owned(), format!("{:.8}", one.id), local(one.created_at), reasons.join(", ")]
        });
        if !machine.backups.is_empty() {
            line(table(&["", "backup", "of", "because"], backups))?;
        }
        if !machine.snapshots.is_empty() {
            line(table(&["", "snapshot", "of", "because"], rows))?;
        }
    }
    Ok(())
}

const fn reason(reason: VerdictReason) -> &'static str {
    match reason {
        VerdictReason::Pinned => "marked to be kept",
        VerdictReason::Newest => "newest",
        VerdictReason::NoRule => "no rule",
        VerdictReason::Last => "last",
        VerdictReason::Hourly => "hourly",
        VerdictReason::Daily => "daily",
        VerdictReason::Weekly => "weekly",
        VerdictReason::Monthly => "monthly",
        VerdictReason::Yearly => "yearly",
        VerdictReason::Superseded => "no rule keeps it",
        VerdictReason::TooDeep => "the present stands on too many",
        VerdictReason::LowSpace => "space is short",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn add(line: &str) -> Option<Add> {
        match Cli::try_parse_from(line.split(' ')).ok()?.command {
            Command::Schedule(ScheduleCommand::Add(add)) => Some(*add),
            _ => None,
        }
    }

    #[test]
    fn plain_choices_become_recurrences() {
        let cron = |line: &str| add(line).unwrap().recurrence().unwrap().cron();
        assert_eq!(cron("voidvm schedule add web --hourly"), "0 * * * *");
        assert_eq!(cron("voidvm schedule add web --daily 02:30"), "30 2 * * *");
        assert_eq!(cron("voidvm schedule add web --weekly Sun 03:00"), "0 3 * * SUN");
        assert_eq!(cron("voidvm schedule add --tag x --monthly last 03:00"), "0 3 L * *");
        for wrong in [
            "voidvm schedule add web",
            "voidvm schedule add --daily 02:30",
            "voidvm schedule add web --group g --hourly",
            "voidvm schedule add web --hourly --daily 02:00",
            "voidvm schedule add web --daily 2h",
            "voidvm schedule add web --hourly --keep last",
            "voidvm schedule add web --hourly --freeze",
        ] {
            assert!(add(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn rules_are_read() {
        let kept = rules("last=7,daily=14,yearly=1").unwrap();
        assert_eq!((kept.keep_last, kept.daily, kept.yearly, kept.hourly), (7, 14, 1, 0));
        assert!(rules("").is_err() && rules("days=1").is_err() && rules("last=-1").is_err());
    }
}
