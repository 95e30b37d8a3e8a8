import re

import pytest

from metaopt.tasks.tables.relatives import RELATIVES, group_of

FAMILIES = [
    ["579_fri_c0_250_5", "588_fri_c4_1000_100", "663_fri_c3_100_10", "564_fried"],
    ["197_cpu_act", "573_cpu_act", "227_cpu_small", "562_cpu_small"],
    ["218_house_8L", "574_house_16H"],
    ["294_satellite_image", "satimage"],
    ["210_cloud", "cloud"],
    ["229_pwLinear", "1203_BNG_pwLinear"],
    ["waveform_21", "waveform_40", "waveform-40"],
    ["parity5", "parity5+5"],
    ["monk1", "monk2", "monk3"],
    ["led7", "led24"],
    ["clean1", "clean2"],
    ["wine_quality_red", "wine_quality_white"],
    ["Hill_Valley_with_noise", "Hill_Valley_without_noise"],
    ["GAMETES_Epistasis_2_Way_20atts_0.1H_EDM_1_1", "GAMETES_Heterogeneity_20atts_1600_Het_0.4_0.2_75_EDM_2_001"],
    ["mfeat_factors", "mfeat_pixel", "mfeat_zernike", "mfeat_morphological"],
    ["allbp", "allhyper", "allhypo", "allrep", "dis", "hypothyroid", "ann_thyroid", "new_thyroid"],
    ["agaricus_lepiota", "mushroom"],
    ["chess", "kr_vs_kp", "kr-vs-kp"],
    ["splice", "dna"],
    ["breast", "breast_w", "breast_cancer", "breast_cancer_wisconsin", "wdbc", "1201_BNG_breastTumor"],
    ["heart_c", "heart_h", "heart_statlog", "cleve", "cleveland", "cleveland_nominal", "hungarian"],
    ["australian", "credit_a", "crx", "buggyCrx"],
    ["german", "credit_g"],
    ["diabetes", "pima"],
    ["glass", "glass2", "prnn_fglass"],
    ["auto", "195_auto_price", "207_autoPrice"],
    ["car", "car_evaluation"],
    ["cmc", "contraceptive"],
    ["flare", "solar_flare_1", "solar_flare_2"],
    ["vote", "house_votes_84"],
    ["colic", "horse_colic"],
    ["spect", "spectf"],
    ["analcatdata_cyyoung8092", "analcatdata_cyyoung9302"],
    ["analcatdata_boxing1", "analcatdata_boxing2"],
    ["522_pm10", "547_no2"],
    ["230_machine_cpu", "561_cpu"],
    ["optdigits", "digits"],
    ["wine", "wine_recognition"],
]


@pytest.mark.parametrize("names", FAMILIES, ids=lambda names: names[0])
def test_relatives_are_one_group(names):
    assert len({group_of(name) for name in names}) == 1


def test_strangers_are_not():
    assert len({group_of(names[0]) for names in FAMILIES}) == len(FAMILIES)
    strangers = [
        "iris",
        "krkopt",
        "pendigits",
        "magic",
        "analcatdata_dmft",
        "analcatdata_aids",
        "prnn_crabs",
        "537_houses",
    ]
    strangers += ["prnn_synth", "twonorm", "ring", "xd6", "mux6", "threeOf9", "1027_ESL", "1029_LEV", "215_2dplanes"]
    assert len({group_of(name) for name in [*strangers, *(names[0] for names in FAMILIES)]}) == len(strangers) + len(
        FAMILIES
    )


def test_every_rule_matches_names_as_the_base_leaves_them():
    for _, pattern in RELATIVES:
        assert pattern == pattern.casefold()
        assert not re.search(r"(?<!\\)\d", pattern.replace("imports_85", "")), "a base name ends before its number"
