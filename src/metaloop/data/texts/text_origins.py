"""Origins and licences of the text data sets."""

from metaloop.data.files.archives import Origin

ORIGINS = {
    "clinc150": Origin("clinc150", "CC BY 3.0"),
    "news_fewshot": Origin("news_fewshot", "none stated"),
    "banking77": Origin("banking77", "CC BY 4.0"),
    "hwu64": Origin("hwu64", "CC BY 4.0"),
    "fewrel": Origin("fewrel", "MIT"),
    "slots": Origin(
        "slots", "CC0 1.0 (SNIPS), none stated (ATIS)", "Get the folder data of the repository MiuLab/SlotGated-SLU on GitHub"
    ),
    "arsc": Origin(
        "arsc", "none stated", "Get the folder Amazon_few_shot of the repository Gorov/DiverseFewShot_Amazon on GitHub"
    ),
}
USER_TEXTS = Origin("text_files", "", "Check dataset.files, dataset.data_dir and the names of the columns")
