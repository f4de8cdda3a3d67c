//! Which operating system is on an ISO: the one whose medium says most about it.

use regex::{Captures, Regex};

use crate::IsoIdentity;
use crate::preset::{stem, version_order};
use crate::read::{Entry, Medium};

/// The operating system whose description of a medium fits this one.
pub(crate) fn known<'a>(entries: &'a [Entry], identity: &IsoIdentity) -> Option<&'a Entry> {
    let fitting = entries.iter().filter_map(|entry| {
        let best = entry.media.iter().filter_map(|medium| fit(medium, identity)).max()?;
        Some((best, entry))
    });
    fitting.max_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.released.cmp(&b.1.released))).map(|(_, entry)| entry)
}

/// How well a description fits: how much it says. None where something does not fit, or where it says no volume id.
fn fit(medium: &Medium, identity: &IsoIdentity) -> Option<(bool, usize, usize)> {
    let volume_id = medium.volume_id.as_deref()?;
    if medium.volume_size.is_some_and(|size| size != identity.volume_size) {
        return None;
    }
    let others = [
        (&medium.system_id, &identity.system_id),
        (&medium.publisher_id, &identity.publisher_id),
        (&medium.application_id, &identity.application_id),
    ];
    let mut said = usize::from(medium.volume_size.is_some());
    for (pattern, text) in [(volume_id, &identity.volume_id)]
        .into_iter()
        .chain(others.into_iter().filter_map(|(pattern, text)| Some((pattern.as_deref()?, text))))
    {
        if !text.contains(literal_start(pattern))
            || !Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        {
            return None;
        }
        said += 1;
    }
    Some((medium.for_pcs, said, volume_id.len()))
}

/// What a pattern's text must contain, for a look that costs nothing: the plain characters it begins with.
fn literal_start(pattern: &str) -> &str {
    let core = pattern.strip_prefix('^').unwrap_or(pattern);
    if core.contains('|') {
        return "";
    }
    let end = core.find(|c: char| !c.is_ascii_alphanumeric() && !" _-".contains(c)).unwrap_or(core.len());
    // The last character belongs to a quantifier that follows it.
    let end = if core[end..].starts_with(['?', '*', '{']) { end.saturating_sub(1) } else { end };
    &core[..end]
}

/// The short id of a release that is newer than the database: a volume id that differs from a known one in its version only.
pub(crate) fn newer(entries: &[Entry], identity: &IsoIdentity) -> Option<String> {
    let found = entries.iter().filter_map(|entry| {
        let version =
            entry.version.as_deref().filter(|version| version.starts_with(|c: char| c.is_ascii_digit()))?;
        let (stem, _) = stem(&entry.short_id)?;
        let shape: String = version.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        let other = entry.media.iter().filter(|medium| medium.for_pcs).find_map(|medium| {
            let captures = capture_version(medium.volume_id.as_deref()?, version, &identity.volume_id)?;
            captures.get(1).map(|found| found.as_str().to_owned())
        })?;
        // `22.04` gives `24.04`; `11` gives `12`, not `12.5`.
        let parts = shape.split('.').count();
        let other: Vec<&str> = other.split('.').filter(|part| !part.is_empty()).take(parts).collect();
        let other = other.join(".");
        (version_order(&other) > version_order(version))
            .then(|| (version_order(version), format!("{stem}{other}")))
    });
    found.max().map(|(_, short_id)| short_id)
}

fn capture_version<'t>(pattern: &str, version: &str, text: &'t str) -> Option<Captures<'t>> {
    let at = [regex::escape(version), version.to_owned()]
        .into_iter()
        .find_map(|written| pattern.find(&written).map(|at| at..at + written.len()))?;
    let start = literal_start(&pattern[..at.start]);
    if !text.contains(start) {
        return None;
    }
    let parts = version.split('.').count() - 1;
    let number = format!("([0-9]+(?:\\.[0-9]+){{{parts}}})");
    Regex::new(&format!("{}{number}{}", &pattern[..at.start], &pattern[at.end..])).ok()?.captures(text)
}
