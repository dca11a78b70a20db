"""Names that AWS itself uses lead to the inventory's."""

from __future__ import annotations

import pytest

from remit.inventory.native import bucket_among, names_of_native


@pytest.mark.parametrize(
    ("arn", "known"),
    [
        ("arn:aws:iam::111122223333:user/dev", "urn:remit:aws:111122223333:user:dev"),
        ("arn:aws:iam::111122223333:role/team/deploy", "urn:remit:aws:111122223333:role:team/deploy"),
        ("arn:aws:sts::111122223333:assumed-role/deploy/session", "urn:remit:aws:111122223333:role:deploy"),
        ("arn:aws:iam::111122223333:root", "urn:remit:aws:111122223333:root:root"),
        ("arn:aws-cn:iam::111122223333:user/dev", "urn:remit:aws:111122223333:user:dev"),
    ],
)
def test_an_arn_is_the_name_of_its_principal(arn: str, known: str) -> None:
    assert names_of_native(arn) == (known,)


def test_what_is_no_arn_has_no_other_name() -> None:
    assert names_of_native("orders") == names_of_native("urn:remit:aws:1:user:dev") == ()


def test_a_bucket_is_found_in_whichever_account_has_it() -> None:
    names = ["urn:remit:aws:1:s3:logs", "urn:remit:aws:2:s3:data", "id_1"]
    assert bucket_among("arn:aws:s3:::data/customers.csv", names) == "urn:remit:aws:2:s3:data"
    assert bucket_among("arn:aws:s3:::elsewhere", names) is None
