//! Kernel configuration from readable fragments, and the proof that it took effect.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One wanted setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// With the `CONFIG_` in front.
    pub name: String,
    /// `y`, `n`, a number or a quoted string.
    pub value: String,
    pub fragment: String,
}

/// Reads fragments; a later one overrides an earlier one.
pub fn read(folder: &Path, names: &[&str]) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    for name in names {
        let path: PathBuf = folder.join(format!("{name}.config"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        for setting in parse(&text, name)? {
            settings.retain(|old| old.name != setting.name);
            settings.push(setting);
        }
    }
    Ok(settings)
}

fn parse(text: &str, fragment: &str) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) if name.starts_with("CONFIG_") && !value.is_empty() => {
                (name, value)
            }
            _ => bail!(
                "{fragment}.config, line {}: `{line}` is not a setting",
                number + 1
            ),
        };
        if settings.iter().any(|old| old.name == name) {
            bail!(
                "{fragment}.config, line {}: {name} is set twice",
                number + 1
            );
        }
        settings.push(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            fragment: fragment.to_owned(),
        });
    }
    Ok(settings)
}

/// The settings in the form that kconfig reads.
pub fn render(settings: &[Setting]) -> String {
    settings
        .iter()
        .map(|setting| match setting.value.as_str() {
            "n" => format!("# {} is not set\n", setting.name),
            value => format!("{}={value}\n", setting.name),
        })
        .collect()
}

/// Which wanted settings a finished `.config` does not have, each with what it has instead.
pub fn not_in_effect(settings: &[Setting], config: &str) -> Vec<String> {
    settings
        .iter()
        .filter_map(|setting| {
            let start = format!("{}=", setting.name);
            let found = config
                .lines()
                .find_map(|line| line.strip_prefix(&start))
                .unwrap_or("n");
            (found != setting.value).then(|| {
                format!(
                    "{}={} ({}.config) is {found}",
                    setting.name, setting.value, setting.fragment
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fragment_of_the_project_is_well_formed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(
                !read(&folder, &[&name]).unwrap().is_empty(),
                "{name} is empty"
            );
            let text = std::fs::read_to_string(&path).unwrap();
            let mut explained = false;
            for line in text.lines() {
                explained = line.starts_with('#') || (explained && !line.is_empty());
                assert!(
                    explained || line.is_empty(),
                    "{name}: no reason above `{line}`"
                );
            }
            count += 1;
        }
        assert!(count >= 3);
    }

    #[test]
    fn a_later_fragment_overrides() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.config"),
            "# x\nCONFIG_A=y\nCONFIG_B=2\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("b.config"), "CONFIG_A=n\n").unwrap();
        let settings = read(folder.path(), &["a", "b"]).unwrap();
        assert_eq!(render(&settings), "CONFIG_B=2\n# CONFIG_A is not set\n");
    }

    #[test]
    fn what_did_not_take_effect_is_named() {
        let settings = parse("CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=4\nCONFIG_D=n", "f").unwrap();
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=5\nCONFIG_D=y\n";
        let wrong = not_in_effect(&settings, config);
        assert_eq!(
            wrong,
            ["CONFIG_C=4 (f.config) is 5", "CONFIG_D=n (f.config) is y"]
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(parse("CONFIG_A", "f").is_err());
        assert!(parse("CONFIG_A=y\nCONFIG_A=n", "f").is_err());
    }
}
