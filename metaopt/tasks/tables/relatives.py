"""Which tables of PMLB and scikit-learn are relatives of each other by their names, and stay on one side of a split."""

from __future__ import annotations

import re

RELATIVES: tuple[tuple[str, str], ...] = (
    # Names of PMLB and scikit-learn, as `_base` leaves them. Found by names, by the data's descriptions, and by
    # comparing all pairs of tables for equal rows and equal columns of any order.
    ("friedman", r"fri_c|fried"),  # one generator: the same function of five inputs
    ("gametes", r"gametes_.*"),  # one simulator of genotypes
    ("hill_valley", r"hill_valley.*"),
    ("computer_activity", r"cpu_act|cpu_small"),  # the same rows, fewer columns
    ("cpu_performance", r"machine_cpu|cpu"),
    ("census_house", r"house"),  # house_8L, house_16H: the same rows
    ("digits", r"optdigits|digits"),  # scikit-learn's digits are the test rows of optdigits
    ("multiple_features", r"mfeat_.*"),  # six descriptions of the same 2000 digits
    ("wine_quality", r"wine_quality.*"),
    ("wine", r"wine|wine_recognition"),
    ("splice_junctions", r"splice|dna|molecular_biology_splice"),  # one collection, two encodings
    ("promoters", r"promoters|molecular_biology_promoters"),
    ("satellite", r"satimage|satellite_image"),
    ("chess_king_rook_pawn", r"chess|kr_vs_kp"),
    ("mushrooms", r"mushroom|agaricus_lepiota"),
    ("thyroid", r"allbp|allhyper|allhypo|allrep|dis|hypothyroid|sick|sick_euthyroid|ann_thyroid|new_thyroid"),
    ("breast", r"breast.*|wdbc|wpbc|wisconsin|breasttumor"),
    ("credit_australia", r"australian|credit_a|crx|buggycrx"),
    ("credit_germany", r"german|credit_g"),
    ("heart_disease", r"cleve|cleveland.*|heart.*|hungarian|switzerland|va"),
    ("pima", r"pima|diabetes"),  # scikit-learn's diabetes is other data; one word too many does no harm
    ("glass", r"glass|prnn_fglass"),
    ("imports_85", r"auto|autos|autoprice|auto_price"),
    ("car_evaluation", r"car|car_evaluation"),
    ("auto_mpg", r"cars|autompg|auto_mpg"),
    ("contraceptive", r"cmc|contraceptive"),
    ("flares", r"flare|solar_flare.*"),
    ("votes", r"vote|votes|house_votes"),
    ("horse_colic", r"colic|horse_colic"),
    ("liver", r"bupa|liver_disorders?"),
    ("heart_images", r"spectf?"),
    ("air_pollution_oslo", r"no|pm"),  # no2, pm10: one study
    ("cy_young", r"analcatdata_cyyoung"),
)
"""(group, pattern): tables whose base names match a pattern in full are one group."""

_INDEX = re.compile(r"^\d+_(?=[a-z])")
_ENDING = re.compile(r"(?<=[a-z])[_+]?\d+[a-z]{0,2}([_+]\d+)*$")


def group_of(name: str) -> str:
    """The group of a table of PMLB or scikit-learn, by its name.

    It is the base name: without OpenML's number in front ("573_cpu_act"), without "BNG_" (data sampled from a Bayesian
    network that was fitted to the original), and without a number at the end ("monk3", "waveform_40", "house_16H");
    or what `RELATIVES` says of that. It would rather keep strangers together than part relatives.
    """
    base = _base(name)
    return next((group for group, pattern in RELATIVES if re.fullmatch(pattern, base)), base)


def _base(name: str) -> str:
    plain = _INDEX.sub("", name.casefold().replace("-", "_")).removeprefix("bng_")
    return _ENDING.sub("", plain)
