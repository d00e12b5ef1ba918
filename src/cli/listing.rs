//! How jobs look in a terminal.
use waystation::control::protocol::Job;

/// Jobs, one a line; `more` when there are more than these.
pub(super) fn table(jobs: &[Job], more: bool) -> String {
    let mut rows = vec![
        [
            "JOB",
            "STATE",
            "DESTINATION",
            "PRIORITY",
            "SOURCE",
            "ARRIVAL",
            "TRIES",
            "WHY",
        ]
        .map(str::to_owned),
    ];
    for job in jobs {
        let kind = job.hold_kind.as_ref().map_or(String::new(), |kind| format!("{kind}: "));
        let why = job.reason.as_ref().or(job.outcome.as_ref());
        rows.push([
            job.job.to_string(),
            job.state.clone(),
            job.destination.clone().unwrap_or_else(|| "(undecided)".to_owned()),
            job.priority.clone(),
            job.source.clone(),
            job.arrival.clone(),
            job.attempts.to_string(),
            why.map_or(String::new(), |why| format!("{kind}{why}")),
        ]);
    }
    let end = if more {
        "… and more: narrow the filter or raise --limit\n"
    } else {
        ""
    };
    aligned(&rows) + end
}

/// One job, one property a line.
pub(super) fn details(job: &Job) -> String {
    let none = || "-".to_owned();
    let rows = [
        ["job", &job.job.to_string()],
        ["state", &job.state],
        ["destination", &job.destination.clone().unwrap_or_else(none)],
        ["priority", &job.priority],
        ["attempts", &job.attempts.to_string()],
        ["due", &job.due.clone().unwrap_or_else(none)],
        ["ended", &job.ended.clone().unwrap_or_else(none)],
        ["last outcome", &job.outcome.clone().unwrap_or_else(none)],
        ["hold", &job.hold_kind.clone().unwrap_or_else(none)],
        ["reason", &job.reason.clone().unwrap_or_else(none)],
        ["source", &job.source],
        ["calling AE", &job.calling_ae],
        ["called AE", &job.called_ae],
        ["arrival", &job.arrival],
        ["instance", &job.instance],
        ["SOP Class UID", &job.sop_class],
        ["SOP Instance UID", &job.sop_instance],
        ["Study Instance UID", &job.study.clone().unwrap_or_else(none)],
        ["Transfer Syntax UID", &job.transfer_syntax],
        ["bytes", &job.length.to_string()],
    ];
    aligned(&rows.map(|row| row.map(str::to_owned)))
}

/// Columns two spaces apart; the last one as it is.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_aligned_and_say_when_there_is_more() {
        let held = Job {
            job: 1234,
            state: "held".to_owned(),
            hold_kind: Some("rule".to_owned()),
            reason: Some("burned-in annotation".to_owned()),
            ..Job::default()
        };
        let text = table(&[held], true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].find("STATE"), lines[1].find("held"));
        assert!(
            lines[1].ends_with("rule: burned-in annotation") && lines[1].contains("(undecided)"),
            "{text}"
        );
        assert!(lines[2].contains("--limit"));
    }
}
