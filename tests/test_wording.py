from pipeline.wording import nearest


def test_case_and_underscores_do_not_matter_for_the_nearest_word():
    known = ["MAX_LR", "MIN_LR", "POWER"]
    assert nearest("maxlr", known) == ["MAX_LR"]
    assert nearest("PWOER", known) == ["POWER"]
    assert nearest("ENCODER", known) == []


def test_of_equally_near_words_those_with_the_same_beginning_come_first():
    assert nearest("ExpAAZ", ["ExpHAA", "ExpGAA", "ExpAAB", "ExpAAA"], most=2) == ["ExpAAA", "ExpAAB"]
