//! Stories as people read them: one block for each instance, one line for each step.
use super::story::{Step, Story};
use super::trace::Answer;
use std::fmt;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for story in &self.instances {
            writeln!(f, "{story}")?;
        }
        if self.instances.is_empty() {
            writeln!(f, "no instance is known by that value")?;
        }
        if let Some(next) = &self.next {
            writeln!(f, "… and more: --after {next}")?;
        }
        if !self.complete {
            writeln!(
                f,
                "(the index of patients and UIDs is still being filled: instances from before may lack)"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place.as_str() {
            "here" => "deliveries are open",
            "cache" => "all deliveries have ended, kept as cache",
            _ => "no longer on this box",
        };
        writeln!(
            f,
            "instance {}  ({place}{})",
            self.instance,
            if self.damaged { ", DAMAGED" } else { "" }
        )?;
        let line = |f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>| match value
            .filter(|value| !value.is_empty())
        {
            Some(value) => writeln!(f, "  {name:<18} {value}"),
            None => Ok(()),
        };
        if let Some(patient) = &self.patient {
            line(
                f,
                "patient",
                Some(&format!("{}  {}  {}", patient.id, patient.name, patient.birth_date)),
            )?;
            line(f, "issuer", Some(&patient.issuer))?;
            line(f, "accession", Some(&patient.accession))?;
            line(
                f,
                "study",
                Some(&format!(
                    "{} {} {}",
                    patient.study_date, patient.modality, patient.description
                )),
            )?;
            line(f, "Series UID", Some(&patient.series))?;
        }
        line(f, "source", self.source.as_deref())?;
        line(f, "SOP Instance UID", self.sop_instance.as_deref())?;
        line(f, "SOP Class UID", self.sop_class.as_deref())?;
        line(f, "Study UID", self.study.as_deref())?;
        for delivery in &self.deliveries {
            let to = delivery.destination.as_deref().unwrap_or("(undecided)");
            let attempts = delivery.attempts;
            writeln!(
                f,
                "  to {to:<15} {} since {}, attempts {attempts}, job {}",
                delivery.state, delivery.since, delivery.job
            )?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:<13}", self.at, self.what)?;
        if let Some(to) = &self.destination {
            write!(f, " {to}")?;
        }
        if let Some(job) = self.job {
            write!(f, " (job {job})")?;
        }
        if let Some(who) = &self.who {
            write!(f, " by {who}")?;
        }
        if !self.text.is_empty() {
            write!(f, "  {}", self.text)?;
        }
        Ok(())
    }
}
