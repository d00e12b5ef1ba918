//! Real names and words, as a set writes them and in UTF-8 under the declaration of that set: neither is taken for the other.
use super::survey::*;
use crate::dicom::head::Head;
use crate::dicom::head::tests::{EXPLICIT, element, syntax};
use crate::dicom::syntax::Layout;
use crate::dicom::text::{Charset, Form};

/// The sets whose script is not Latin, with words of its languages.
const OWN_SCRIPT: [(&str, &str); 5] = [
    (
        "ISO_IR 144",
        "роман яна эммин шиман иванов иван петров пётр сидоров александр александра мария анна ольга наталья сергей дмитрий \
         алексей юрий юлия яков илья лев ли эмма павел николай татьяна екатерина фёдор щукин чехов цой жуков хабибуллин ёлкин \
         подъячев объём обследование грудная клетка колено левое правое голова живот лёгкие рентген снимок отделение хирургия \
         больница первая областная клиническая ребро позвоночник ключица таз стопа кисть без патологии контроль повторно \
         шевченко їжак євген ґалаґан олександр андрій наталія юрій київ львів лікарня відділення кравчук зоряна \
         ђорђе љубица његош ћирић џон живковић јован милош станковић болница нови сад георгиев цветелина стоян българия \
         ъгъл петков желязко лукашэнка ўладзімір менск яўген ќирил ѓорѓи аарон аба баба або абба баланов абрамов",
    ),
    (
        "ISO_IR 126",
        "πελαγία ραλλία ωνάση γεώργιος παπαδόπουλος μαρία ιωάννης κωνσταντίνος ελένη δημήτριος νίκος αθανάσιος βασίλειος \
         χρήστος σοφία αικατερίνη ευαγγελία παναγιώτης σπυρίδων ξένια ξενοφών όμηρος ορέστης οδυσσέας οία ξύλο ξανθή οξύ οίκος \
         έξοδος όξος ιξός οξιά θώρακας κοιλιά κεφαλή γόνατο ακτινογραφία νοσοκομείο κλινική παθολογική χειρουργείο εξέταση \
         αξονική μαγνητική τομογραφία σπονδυλική στήλη ώμος χέρι πόδι πρώτη δεύτερη οστό οστά ρίο ίο ζωή αϊδίνι μαΐου ταΰγετος \
         ξάνθος ξηρός ξίφος ξόμπλι ξέρξης ξώφαλτσα οβίδα όγκος οΐδιον προϊόν ροΐδης τζούλια φώτης ψαρρός",
    ),
    (
        "ISO_IR 166",
        "สมศรี อารี มาลี วีระ สมชาย ใจดี ประเสริฐ สุวรรณ วิชัย นภา กมล กนก ชลธร ธนพร ธนกร พรพรรณ อนงค์ สุดา จันทร์ ศรีสุข ทองดี บุญมี \
         แดง ดำ เขียว ขาว เธอ เนย เนตร เนตรนภา เนติ เนตนา เธียร เนื้อ เนิน เนปาล เธอก เนก เนตรชนก เนาวรัตน์ เนียม เนืองนิตย์ เธียรชัย \
         โรงพยาบาล ตรวจช่องอก เอกซเรย์ ปอด ทรวงอก เข่า ซ้าย ขวา ศีรษะ ท้อง กระดูก สันหลัง มือ เท้า ไหล่ ข้อมือ สะโพก ห้องฉุกเฉิน แผนก รังสี \
         รถ ผล ปกติ ผิดปกติ นาย นาง นางสาว เด็กชาย เด็กหญิง กรุงเทพ เชียงใหม่ ขอนแก่น อุบล ภูเก็ต หาดใหญ่ ณรงค์ ฐิติ ญาณี ฉวี ซอ ฝน ฟ้า ไผ่",
    ),
    (
        "ISO_IR 138",
        "כהן לוי משה אברהם יצחק יעקב שרה רבקה רחל לאה דוד שלמה חיים יוסף אסתר מרים חזה בטן ראש ברך שמאל ימין צילום בית חולים \
         מחלקה רופא אולטרסאונד עמוד שדרה כתף אגן פרץ מזרחי ביטון אזולאי פרידמן ץ ףם",
    ),
    (
        "ISO_IR 127",
        "محمد أحمد علي حسن حسين فاطمة عائشة خديجة عمر عثمان خالد يوسف إبراهيم عبد الله عبدالرحمن سعيد سعاد ليلى منى هدى حج حاج جحا \
         صدر بطن رأس ركبة يسار يمين أشعة مستشفى قسم طبيب مريض عظم كتف ظهر حوض ساق فحص طبيعي مؤمن رؤى جؤجؤ شيماء دعاء علاء رضا، نعم؟ لا؛",
    ),
];

/// The Latin sets, with words of their languages, and what stands above ASCII in them.
const LATIN: [(&str, &str); 6] = [
    (
        "ISO_IR 100",
        "müller jürg schäfer größe grün köhler weiß josé muñoz garcía françois hélène noël zoë björn åsa søren ærø þór ðorði íñigo \
         joão conceição sá gonçalves nuño peña übel öl über ärztin straße",
    ),
    (
        "ISO_IR 101",
        "łódź półtorak północ wójcik śląsk żółw żółć źródło kółko stół późno król kręgosłup prawą miąższ świątek ćwik pół mól góra \
         růžena růžička míšek míša šíša čížek jiří dvořák novotná žižka ještěd šťastný řeřicha tůň děčín hrubý ďábel kůň říha ďuriš \
         ľubomír šťúr štúr ťažký tŕň vŕba kĺb žďár őz győző szűcs erdős éva ödön ürge ágnes íjász őszi dänü \
         râşnov ţară răşinari tăşnad mîşcă băişoara mîndru ştefan şerban ţepeş drăguş gheorghiţă đurđa šćepan žarko đorđe",
    ),
    (
        "ISO_IR 109",
        "ħal għar żebbuġ ġorġ ċensu ħamrun eĥoŝanĝo ĉiuĵaŭde ŝafo ĝardeno ĵurnalo aŭto",
    ),
    (
        "ISO_IR 110",
        "kalniņš ozoliņš bērziņš krūmiņš ķēniņš ķēvē zariņš šķēle ģirts ņina līga jānis ēriks liepiņš kļaviņš ļubova īve \
         žemaitė čiurlionis šarūnas jūratė ąžuolas įžanga ūžas ęėįųū ųžė mūšis pušų šeši õun öö ülo ärni šokk žürii áŋŋel",
    ),
    (
        "ISO_IR 148",
        "şükrü ılık iğdır gülşen çağrı öğretmen ığdır ışık dağ güneş özgür ünlü yılmaz âdil kâzım",
    ),
    (
        "ISO_IR 203",
        "œuvre sœur šokolaad žürii õun žanna štšerbakov cœur müller öö ülo françois ÿ garçon",
    ),
];

fn cases(word: &str) -> [String; 3] {
    let mut letters = word.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    [word.to_owned(), word.to_uppercase(), first + letters.as_str()]
}

/// The set that was found for a name under a declaration, as the words of the standard.
fn found(terms: &str, raw: &[u8]) -> String {
    let bytes = [
        element(Layout::ExplicitLittle, 0x0008_0005, "CS", terms.as_bytes()),
        element(Layout::ExplicitLittle, 0x0010_0010, "PN", raw),
    ];
    let head = Head::scan(syntax(EXPLICIT), &bytes.concat()).unwrap();
    let survey = Survey::of(&head, &Advice::default());
    assert!(!survey.undecidable, "{terms} {raw:?}");
    assert_eq!(
        survey.undeclared_utf8,
        survey.root_sets().iter().any(|set| set.is_utf8()),
        "what was decided against the declaration is flagged"
    );
    survey
        .root_sets()
        .first()
        .map_or(String::new(), |set| set.terms().unwrap_or_default().join("\\"))
}

/// What a text, as its set writes it, was taken for, when that is another set.
fn mistaken(terms: &str, text: &str) -> Option<String> {
    // A capital that the set cannot write is nobody's text.
    let raw = Charset::named(terms).unwrap().encode(text, Form::Names).ok()?;
    let found = found(terms, &raw);
    (found != terms && !raw.is_ascii()).then(|| format!("{terms} {text}: {raw:02X?} was taken for {found}"))
}

fn assert_genuine(terms: &str, text: &str) {
    assert_eq!(mistaken(terms, text), None);
}

#[test]
fn words_of_another_script_are_never_taken_for_utf8() {
    let mut asked = 0;
    for (terms, words) in OWN_SCRIPT {
        let words: Vec<&str> = words.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            for text in cases(word) {
                assert_genuine(terms, &text);
                assert_genuine(terms, &format!("{text} {}", words[(at + 7) % words.len()]));
                assert_genuine(
                    terms,
                    &format!("CT {text}^{}", words[(at + 3) % words.len()].to_uppercase()),
                );
                let letters: Vec<char> = text.chars().collect();
                for pair in letters.windows(2) {
                    assert_genuine(terms, &pair.iter().collect::<String>());
                    asked += 1;
                }
                for part in letters.windows(4) {
                    assert_genuine(terms, &part.iter().collect::<String>());
                }
            }
        }
    }
    assert!(asked > 4000, "{asked}");
}

#[test]
fn words_of_another_script_are_found_in_utf8_under_the_declaration_of_their_set() {
    for (terms, words) in OWN_SCRIPT {
        for word in words.split_whitespace().filter(|word| word.chars().count() > 1) {
            for text in cases(word) {
                for text in [
                    text.clone(),
                    format!("CT {text}"),
                    format!("{text}^{text}=X"),
                    format!("«{text}»\u{A0}1"),
                ] {
                    assert_eq!(found(terms, text.as_bytes()), "ISO_IR 192", "{terms} {text}");
                }
            }
        }
    }
}

#[test]
fn words_in_latin_letters_are_what_is_declared_as_far_as_they_can_be_told() {
    let mut found = Vec::new();
    for (terms, words) in LATIN {
        for text in words.split_whitespace().flat_map(cases) {
            found.extend(mistaken(terms, &text));
            found.extend(mistaken(terms, &format!("NOVAK {text}^ANNA")));
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn words_in_latin_letters_are_found_in_utf8_under_every_latin_declaration() {
    let signs = "37°C,10 µm,10µm,«Mot»,5 Ω,col·lega,Hohe Straße 5½,Иванов^Иван,Πελαγία,CT Роман,山田^太郎,é,Sá,O’Hara,Nguyễn,Phương";
    let words = LATIN
        .iter()
        .flat_map(|(_, words)| words.split_whitespace())
        .flat_map(cases);
    let texts: Vec<String> = words
        .chain(signs.split(',').map(str::to_owned))
        .filter(|text| !text.is_ascii())
        .collect();
    let mut missed = Vec::new();
    for (terms, _) in LATIN {
        let other = texts
            .iter()
            .filter(|text| found(terms, text.as_bytes()) != "ISO_IR 192");
        missed.extend(other.map(|text| format!("{terms} {text}")));
    }
    assert_eq!(missed, [""; 0]);
}
