//! Makes the report of one day: the day's lines of the ledger, read once; every instance that came on that day, looked at; and
//! everything that lies here, looked at. In pages, so that neither memory nor the index's readers grow with the day.
use super::day::{Calendar, Day};
use super::judge::{Outcome, differences, outcome};
use super::refusals::Refused;
use super::report::{DestinationDay, Difference, Report, STUDIES_MAX, SourceDay, StudySent};
use crate::base::clock::Wall;
use crate::base::names::InstanceId;
use crate::spool::{Detail, Fact, FactKind, Holding, Look, ReadError, Spool};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Facts, or instances, in one page.
const PAGE: usize = 2_000;
/// Between the first and the second look at what seems to differ: what is being done meanwhile is then done.
const AGAIN: Duration = Duration::from_millis(300);

/// Makes the report of a day, as of `now`.
///
/// # Errors
/// The index cannot be read.
pub(super) async fn collect(spool: &Spool, calendar: &Calendar, day: Day, now: Wall) -> Result<Report, ReadError> {
    let (from, to) = calendar.bounds(day);
    let mut report = Report {
        format: 1,
        day: day.to_string(),
        zone: calendar.name.clone(),
        from: from.iso(),
        to: to.iso(),
        made: now.iso(),
        complete: now >= to,
        ..Report::default()
    };
    (report.ledger_line, report.ledger_head) = spool.ledger_end().await?;
    let mut told = Told::default();
    let mut place = None;
    loop {
        let (facts, next) = spool.facts_between((from, to), place, PAGE).await?;
        facts.iter().for_each(|fact| told.fact(fact));
        facts.iter().filter_map(broken).for_each(|note| report.note(note));
        match next {
            Some(next) => place = Some(next),
            None => break,
        }
    }
    told.came(spool, &mut report).await?;
    told.lies_here(spool, &mut report, now).await?;
    std::mem::take(&mut told.refused).differ(spool, &mut report).await?;
    told.sums(&mut report);
    report.differences.sort();
    Ok(report)
}

/// What a salvage has said on that day of the ledger itself.
fn broken(fact: &Fact) -> Option<String> {
    let Some(Detail::Break(told)) = fact.detail.as_deref() else {
        return None;
    };
    let whole = told.carried == told.known && told.carried > 0 && told.gaps.is_empty() && !told.many;
    let doubt = match whole {
        true => "",
        false => ": what was done before then may not all be in this report",
    };
    let at = fact.at().iso();
    Some(format!(
        "the chain of the ledger has a break, {at}: {}{doubt}",
        fact.text
    ))
}

/// What the ledger tells of a day.
#[derive(Default)]
struct Told {
    sources: BTreeMap<String, BTreeMap<Option<String>, StudySent>>,
    destinations: BTreeMap<String, DestinationDay>,
    refused: Refused,
    /// New on that day.
    arrivals: BTreeSet<InstanceId>,
    /// Others that something was told of which may make a difference.
    others: BTreeSet<InstanceId>,
    /// Differences of instances that were looked at already.
    seen: BTreeSet<InstanceId>,
}

impl Told {
    fn fact(&mut self, fact: &Fact) {
        let to = fact.destination.as_ref().map(ToString::to_string);
        match fact.kind {
            FactKind::Stored | FactKind::Conflict | FactKind::Repeated => self.arrival(fact),
            FactKind::Refused => {
                if let Some(Detail::Refused(refused)) = fact.detail.as_deref() {
                    let study = self.study(refused.source.as_str(), refused.study.clone());
                    match refused.status.as_str() {
                        "cut" => study.cut += refused.count,
                        _ => study.refused += refused.count,
                    }
                    self.refused.add(fact.at(), refused);
                }
            }
            FactKind::Confirmed if fact.is_commitment() => self.destination(to).committed += 1,
            FactKind::Sent | FactKind::Confirmed => self.destination(to).confirmed += 1,
            FactKind::CommitmentRefused if !fact.is_unanswered() => {
                self.destination(to).not_committed += 1;
                self.others.extend(fact.about());
            }
            _ => {}
        }
    }

    fn arrival(&mut self, fact: &Fact) {
        // Lines of an older format name the source and nothing else.
        let (source, study) = match fact.arrival() {
            Some(arrival) => (arrival.source.to_string(), arrival.study.clone()),
            None => (fact.text.clone(), None),
        };
        if source.is_empty() {
            return;
        }
        let counted = self.study(&source, study);
        counted.acknowledged += 1;
        match fact.kind {
            FactKind::Repeated => counted.repeats += 1,
            FactKind::Conflict => counted.conflicts += 1,
            _ => counted.stored += 1,
        }
        if fact.kind != FactKind::Repeated {
            self.arrivals.extend(fact.about());
        }
    }

    fn study(&mut self, source: &str, study: Option<String>) -> &mut StudySent {
        let studies = self.sources.entry(source.to_owned()).or_default();
        studies.entry(study.clone()).or_insert_with(|| StudySent {
            study,
            ..StudySent::default()
        })
    }

    fn destination(&mut self, name: Option<String>) -> &mut DestinationDay {
        let name = name.unwrap_or_else(|| "(none)".to_owned());
        self.destinations.entry(name.clone()).or_insert_with(|| DestinationDay {
            destination: name,
            ..DestinationDay::default()
        })
    }

    /// Every instance that came on that day, and what else was told of: where is it now?
    async fn came(&mut self, spool: &Spool, report: &mut Report) -> Result<(), ReadError> {
        let all: Vec<InstanceId> = self.arrivals.union(&self.others).copied().collect();
        for page in all.chunks(PAGE) {
            let looks = spool.look(page.to_vec()).await?;
            let differing = settled(spool, looks.iter().filter(|look| !differences(look).is_empty())).await?;
            for look in &looks {
                let differs = differing.contains_key(&look.id);
                if self.arrivals.contains(&look.id) {
                    count(report, look, differs);
                }
            }
            self.tell(report, differing);
        }
        Ok(())
    }

    /// Everything that lies here, whenever it came.
    async fn lies_here(&mut self, spool: &Spool, report: &mut Report, now: Wall) -> Result<(), ReadError> {
        let mut after = None;
        loop {
            let page = spool.holdings(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.instance.id);
            let mut suspects = Vec::new();
            for holding in &page {
                self.open(report, holding, now);
                let id = holding.instance.id;
                let sound = holding.delivered && holding.file == Some(holding.expected) && !holding.damaged;
                if !sound && !self.arrivals.contains(&id) && !self.others.contains(&id) {
                    suspects.push(id);
                }
            }
            let looks = spool.look(suspects).await?;
            let differing = settled(spool, looks.iter().filter(|look| !differences(look).is_empty())).await?;
            self.tell(report, differing);
        }
    }

    /// What is here, and open for whom.
    fn open(&mut self, report: &mut Report, holding: &Holding, now: Wall) {
        report.here.instances += 1;
        match holding.delivered {
            true => report.here.cache += 1,
            false => report.here.pending += 1,
        }
        for job in &holding.jobs {
            let to = self.destination(job.destination.as_ref().map(ToString::to_string));
            match &job.hold {
                Some(_) => to.held += 1,
                None => {
                    to.open += 1;
                    let since = job.enqueued.min(now).iso();
                    // ISO 8601 in one zone sorts as time does.
                    if to.oldest_open.as_ref().is_none_or(|oldest| since < *oldest) {
                        to.oldest_open = Some(since);
                    }
                }
            }
        }
    }

    fn tell(&mut self, report: &mut Report, differing: BTreeMap<InstanceId, Vec<Difference>>) {
        for (id, found) in differing {
            if self.seen.insert(id) {
                found.into_iter().for_each(|difference| report.differ(difference));
            }
        }
    }

    fn sums(&mut self, report: &mut Report) {
        for (source, studies) in std::mem::take(&mut self.sources) {
            let mut sum = SourceDay {
                source,
                ..SourceDay::default()
            };
            for mut study in studies.into_values() {
                study.received = study.acknowledged + study.refused + study.cut;
                sum.received += study.received;
                sum.acknowledged += study.acknowledged;
                sum.refused += study.refused;
                sum.cut += study.cut;
                sum.stored += study.stored;
                sum.repeats += study.repeats;
                sum.conflicts += study.conflicts;
                if sum.studies.len() < STUDIES_MAX {
                    sum.studies.push(study);
                }
            }
            report.sources.push(sum);
        }
        report.destinations = std::mem::take(&mut self.destinations).into_values().collect();
    }
}

/// Looks a second time at what seems to differ, and answers what still does.
async fn settled(
    spool: &Spool,
    suspects: impl Iterator<Item = &Look>,
) -> Result<BTreeMap<InstanceId, Vec<Difference>>, ReadError> {
    let suspects: Vec<InstanceId> = suspects.map(|look| look.id).collect();
    if suspects.is_empty() {
        return Ok(BTreeMap::new());
    }
    tokio::time::sleep(AGAIN).await;
    let looks = spool.look(suspects).await?;
    let found = looks.iter().map(|look| (look.id, differences(look)));
    Ok(found.filter(|(_, found)| !found.is_empty()).collect())
}

fn count(report: &mut Report, look: &Look, differs: bool) {
    let fate = &mut report.fate;
    fate.stored += 1;
    if differs {
        fate.differing += 1;
        return;
    }
    match outcome(look) {
        Outcome::Delivered => fate.delivered += 1,
        Outcome::Open => fate.open += 1,
        Outcome::Held => fate.held += 1,
        Outcome::Discarded => fate.discarded += 1,
        Outcome::Replaced => fate.replaced += 1,
    }
}
