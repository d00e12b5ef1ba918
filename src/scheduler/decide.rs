//! A worker's decisions: pure. What an outcome means for the job and for the lane, what it takes to know, and whether the next
//! job may go. `worker.rs` asks them in the box, `tests/sim` asks the same in virtual time.
use super::machine::{Report, Streak};
use super::parked;
use super::retry::{self, Circumstances, Verdict};
use crate::base::clock::Wall;
use crate::base::names::JobId;
use crate::sender::{Down, DownKind, Interruption, Job, Left, Outcome, Pair, Patience};
use crate::spool::{CommitError, HoldKind, HoldReason, ReadError, Settlement};
use crate::transcode::forms::name_of;

/// What an outcome says at first sight.
#[derive(Debug)]
pub enum Exam {
    /// Whether the destination answers now, and what the lane is to know.
    Known { answers: bool, report: Option<Report> },
    /// A fresh session broke. Was it the instance or the destination? Probe it, and judge by `asked`.
    Ask,
}

/// Judges an outcome about a job of this pair.
pub fn examine(pair: &Pair, outcome: &Outcome, streak: &mut Streak) -> Exam {
    let known = |answers, report| Exam::Known { answers, report };
    match outcome {
        Outcome::Confirmed { .. } | Outcome::Duplicate | Outcome::Refused { .. } => {
            streak.answered();
            known(true, Some(Report::Answered))
        }
        Outcome::Congested { .. } => known(true, Some(Report::Congested)),
        Outcome::Unauthorised => known(true, Some(Report::Unauthorised)),
        Outcome::Down(down) => known(false, Some(Report::Down(down.clone()))),
        Outcome::NoContext { result } => {
            let reason = format!("{}: {}", parked::describe(pair), retry::refusal(*result));
            let pair = pair.clone();
            known(true, Some(Report::Refused { pair, reason }))
        }
        Outcome::Corrupt { .. } | Outcome::Edit { .. } | Outcome::Unconvertible { .. } => known(true, None),
        Outcome::Unready { what } => known(true, Some(Report::Unready(what.clone()))),
        Outcome::Interrupted(interruption) if interruption.fresh => Exam::Ask,
        Outcome::Interrupted(_) => known(false, None),
    }
}

/// Judges what the probe after a broken session found: whether the destination answers and the instance is to blame, and what the lane
/// is to know.
pub fn asked(
    job: JobId,
    interruption: &Interruption,
    answer: Result<(), Down>,
    streak: &mut Streak,
) -> (bool, Option<Report>) {
    let what = &interruption.what;
    let lost = |reason: String| Report::Down(Down::new(DownKind::Lost, reason));
    match answer {
        Err(down) => (false, Some(lost(format!("{what}, then {down}")))),
        Ok(()) => {
            let broke = streak.broke(job, interruption.line);
            let report = || lost(format!("sessions break again and again: {what}"));
            (!broke.is_line, broke.is_sick.then(report))
        }
    }
}

/// How the job ends in the spool. `None`: it goes back as it was.
#[must_use]
pub fn ending(
    outcome: &Outcome,
    about: Circumstances,
    patience: &Patience,
    pair: &Pair,
    now: Wall,
) -> Option<Settlement> {
    match retry::verdict(outcome, about, patience) {
        Verdict::Return => None,
        Verdict::Confirm { status, note } => Some(Settlement::Confirmed { status, note }),
        Verdict::Retry {
            after,
            counted,
            outcome,
        } => Some(Settlement::Retry {
            due: now.plus(after),
            outcome,
            counted,
        }),
        Verdict::Hold {
            kind: kind @ HoldKind::Parked,
            text,
        } => Some(hold(kind, format!("{}: {text}", parked::describe(pair)))),
        Verdict::Hold { kind, text } => Some(hold(kind, text)),
    }
}

/// A confirmation says in which transfer syntax the instance left, when that is not the stored one, with the hash of its pixels.
#[must_use]
pub fn with_way(settlement: Settlement, job: &Job, left: Option<&Left>) -> Settlement {
    let Settlement::Confirmed { status, mut note } = settlement else {
        return settlement;
    };
    if let Some(left) = left.filter(|left| left.syntax != job.transfer_syntax) {
        let syntax = &left.syntax;
        let way = format!("left as {} ({syntax})", name_of(syntax));
        let pixels = left.pixels.map(|hash| format!("pixels before and after blake3:{hash}"));
        let way: Vec<String> = std::iter::once(way).chain(pixels).collect();
        let said = [note, way.join(", ")];
        note = said
            .into_iter()
            .filter(|said| !said.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
    }
    Settlement::Confirmed { status, note }
}

/// How a job ends whose payload the disk did not give within its deadline, for so many times in a row: put aside for longer each time,
/// which counts against nothing, and in the end held. The others of its lane flow.
#[must_use]
pub fn hung(times: u32, patience: &Patience, roll: f64, now: Wall) -> Settlement {
    let outcome = format!("the payload could not be read: {}", ReadError::Deadline);
    if times >= retry::HUNG_MAX {
        return hold(HoldKind::Corrupt, format!("{outcome}, {times} times"));
    }
    Settlement::Retry {
        due: now.plus(retry::hung(&patience.retry, times, roll)),
        outcome,
        counted: false,
    }
}

/// How a job ends whose payload cannot be read. `None`: it is not the job's fault, the lane rests (after `Deadline` see `hung`).
#[must_use]
pub fn unreadable(error: ReadError) -> Option<Settlement> {
    match error {
        // One instance that cannot be read must not stop its lane: a person sees it, the others flow.
        ReadError::Gone | ReadError::Missing | ReadError::Corrupt | ReadError::Unreadable(_) => {
            Some(hold(HoldKind::Corrupt, error.to_string()))
        }
        ReadError::Io | ReadError::Deadline | ReadError::GateLatched => None,
    }
}

/// Whether a settlement is no trouble of ours.
#[must_use]
pub fn recorded(settled: Result<(), CommitError>) -> bool {
    match settled {
        // A person was faster (discarded, rerouted), or the record went to quarantine: counted there.
        Ok(()) | Err(CommitError::Gone | CommitError::Damaged) => true,
        Err(CommitError::GateLatched | CommitError::DiskFull | CommitError::Deadline) => false,
    }
}

/// Whether the lane goes on after what was reported.
#[must_use]
pub fn goes_on(report: Option<&Report>) -> bool {
    !matches!(report, Some(Report::Congested | Report::Down(_) | Report::Unauthorised))
}

/// A job for a person.
#[must_use]
pub fn hold(kind: HoldKind, text: String) -> Settlement {
    Settlement::Hold {
        reason: HoldReason { kind, text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::names::Uid;
    use crate::scheduler::retry::tests::patience;
    use crate::sender::Duplicate;
    use crate::sender::tests::{EXPLICIT, job};

    fn note(status: u16, note: &str, syntax: &'static str, pixels: Option<blake3::Hash>) -> String {
        let left = Left {
            sop_instance: Uid::known("1.2.3.1"),
            syntax: Uid::known(syntax),
            pixels,
        };
        let settlement = Settlement::Confirmed {
            status,
            note: note.to_owned(),
        };
        match with_way(settlement, &job(1), Some(&left)) {
            Settlement::Confirmed { status: same, note } if same == status => note,
            other => panic!("{other:?}"),
        }
    }

    /// What counts, of breaks over these jobs; 0 stands for an answer.
    fn counted(streak: &mut Streak, line: bool, jobs: &[u64]) -> Vec<bool> {
        let interruption = Interruption {
            what: "closed".to_owned(),
            fresh: true,
            stuck: false,
            line,
        };
        let mut found = Vec::new();
        for job in jobs {
            match job {
                0 => streak.answered(),
                job => found.push(asked(JobId(*job), &interruption, Ok(()), streak).0),
            }
        }
        found
    }

    #[test]
    fn a_line_that_breaks_over_several_instances_counts_against_none_of_them() {
        let mut streak = Streak::default();
        let broke = counted(&mut streak, true, &[1, 2, 3, 1, 2, 3, 4, 4]);
        assert_eq!(broke, [true, true, false, false, false, false, false, false]);
        // Small ones get through in between.
        let broke = counted(&mut streak, true, &[0, 0, 0, 1, 0, 0, 2, 2]);
        assert_eq!(broke, [false; 3]);
        // The line is well again: from here on each is to blame for itself.
        let broke = counted(&mut streak, true, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(broke, [true; 3]);
    }

    #[test]
    fn an_instance_that_alone_breaks_its_sessions_is_to_blame_and_so_is_each_that_a_peer_aborts() {
        assert_eq!(counted(&mut Streak::default(), true, &[1, 1, 1, 0, 1, 1, 2]), [true; 6]);
        assert_eq!(counted(&mut Streak::default(), false, &[1, 2, 3, 4, 1, 2]), [true; 6]);
        // When nothing but such instances is left, they are held in the end.
        let broke = counted(&mut Streak::sparing(2), true, &[1, 2, 3, 1, 2, 3]);
        assert_eq!(broke, [true, true, false, false, true, true]);
    }

    #[test]
    fn a_payload_that_hangs_is_put_aside_for_longer_each_time_and_held_in_the_end() {
        let mut waited = Vec::new();
        for times in 1.. {
            match hung(times, &patience(Duplicate::Hold), 0.5, Wall(0)) {
                Settlement::Retry { due, counted, .. } => {
                    assert!(!counted);
                    waited.push(due.0 / 1_000_000);
                }
                Settlement::Hold { reason } => {
                    assert_eq!((reason.kind, times), (HoldKind::Corrupt, 5));
                    let text = "the payload could not be read: the disk did not answer in time, 5 times";
                    assert_eq!(reason.text, text);
                    break;
                }
                Settlement::Confirmed { .. } => panic!("confirmed"),
            }
        }
        assert_eq!(waited, [60, 120, 240, 480]);
    }

    #[test]
    fn a_confirmation_says_how_the_instance_left_only_when_that_is_not_as_it_is_stored() {
        let hash = blake3::hash(b"pixels");
        assert_eq!(note(0, "", EXPLICIT, None), "");
        assert_eq!(note(0xB000, "a remark", EXPLICIT, None), "a remark");
        assert_eq!(
            note(0xB000, "a remark", "1.2.840.10008.1.2", Some(hash)),
            format!(
                "a remark; left as Implicit VR Little Endian (1.2.840.10008.1.2), pixels before and after blake3:{hash}"
            )
        );
        assert_eq!(
            note(0, "", "1.2.840.10008.1.2.4.80", None),
            "left as JPEG-LS Lossless (1.2.840.10008.1.2.4.80)"
        );
        let held = hold(HoldKind::Refused, "why".to_owned());
        assert_eq!(with_way(held.clone(), &job(1), None), held);
    }
}
