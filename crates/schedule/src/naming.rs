//! Names of scheduled snapshots: a template, with the time where the date alone would not do.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use voidvm_model::snapshot::SNAPSHOT_NAME_MAX;

/// The longest template, in characters: what is put in and behind it needs room.
pub const TEMPLATE_MAX: usize = 60;
/// What is replaced in a template.
pub const WORDS: [&str; 4] = ["{date}", "{time}", "{vm}", "{schedule}"];
/// The longest of the names that are put in, in characters.
const WORD_MAX: usize = 30;

/// What a name is made of.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    /// With [`WORDS`] in it.
    pub template: &'a str,
    /// The schedule's name.
    pub schedule: &'a str,
    /// The machine's name.
    pub vm: &'a str,
    /// Whether there is more than one a day.
    pub more_than_daily: bool,
}

/// What is wrong with a template.
///
/// # Errors
/// A sentence.
pub fn check_template(template: &str) -> Result<(), String> {
    let rest = WORDS.iter().fold(template.to_owned(), |text, word| text.replace(word, ""));
    if template.trim().is_empty() {
        Err("The names' pattern is empty.".to_owned())
    } else if template.chars().count() > TEMPLATE_MAX {
        Err("The names' pattern is too long.".to_owned())
    } else if template.trim() != template || template.chars().any(char::is_control) {
        Err("The names' pattern has a space at an end, or a control character.".to_owned())
    } else if rest.contains(['{', '}']) {
        Err(format!("The names' pattern may have {} in braces, and nothing else.", WORDS.join(", ")))
    } else {
        Ok(())
    }
}

impl Naming<'_> {
    /// A name that is not taken, for a snapshot taken `at` that instant.
    pub fn name(&self, at: Timestamp, zone: &TimeZone, taken: impl Fn(&str) -> bool) -> String {
        let local = at.to_zoned(zone.clone());
        let (minute, second) = (local.strftime("%H-%M").to_string(), local.strftime("%H-%M-%S").to_string());
        let timed = self.template.contains("{time}");
        let base = self
            .template
            .replace("{date}", &local.strftime("%F").to_string())
            .replace("{time}", &minute)
            .replace("{vm}", &cut(self.vm, WORD_MAX))
            .replace("{schedule}", &cut(self.schedule, WORD_MAX));
        let plain = (timed || !self.more_than_daily).then(|| with(&base, ""));
        let to_minute = (!timed).then(|| with(&base, &format!("_{minute}")));
        let to_second = with(&base, &format!("_{second}"));
        let first = [plain, to_minute, Some(to_second)].into_iter().flatten().find(|name| !taken(name));
        first.unwrap_or_else(|| {
            let numbered = (2_u64..).map(|number| with(&base, &format!("_{second}-{number}")));
            let mut free = numbered.skip_while(|name| taken(name));
            free.next().unwrap_or(base)
        })
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect::<String>().trim().to_owned()
}

/// Behind what is cut where it would be too long.
fn with(base: &str, behind: &str) -> String {
    cut(base, SNAPSHOT_NAME_MAX - behind.chars().count()) + behind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(template: &str, more_than_daily: bool, taken: &[&str]) -> String {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let naming = Naming { template, schedule: "nightly", vm: "web", more_than_daily };
        let name = naming.name("2026-11-22T01:00:07Z".parse().unwrap(), &zone, |name| taken.contains(&name));
        assert!(!taken.contains(&name.as_str()) && name.chars().count() <= SNAPSHOT_NAME_MAX);
        name
    }

    #[test]
    fn the_time_is_there_where_it_is_needed() {
        assert_eq!(named("auto_{date}", false, &[]), "auto_2026-11-22");
        assert_eq!(named("auto_{date}", true, &[]), "auto_2026-11-22_02-00");
        assert_eq!(named("auto_{date}", false, &["auto_2026-11-22"]), "auto_2026-11-22_02-00");
        let taken = ["auto_2026-11-22", "auto_2026-11-22_02-00"];
        assert_eq!(named("auto_{date}", false, &taken), "auto_2026-11-22_02-00-07");
        let taken = [&taken[..], &["auto_2026-11-22_02-00-07", "auto_2026-11-22_02-00-07-2"]].concat();
        assert_eq!(named("auto_{date}", true, &taken), "auto_2026-11-22_02-00-07-3");
    }

    #[test]
    fn words_are_replaced() {
        assert_eq!(named("{schedule} {vm} {date} {time}", true, &[]), "nightly web 2026-11-22 02-00");
        assert_eq!(named("x", false, &["x"]), "x_02-00");
        let long = "é".repeat(TEMPLATE_MAX);
        assert!(check_template(&long).is_ok() && check_template(&format!("{long}é")).is_err());
        for wrong in ["", " ", "a ", "{day}", "{", "a\n", "{date}}"] {
            assert!(check_template(wrong).is_err(), "{wrong:?}");
        }
    }
}
