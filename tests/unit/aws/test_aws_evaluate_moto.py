"""Decisions without conditions, against moto's own evaluation of IAM policies."""

from __future__ import annotations

import json
from itertools import product
from random import Random

import pytest

from remit.inventory.connectors.aws.account import read_account
from remit.inventory.connectors.aws.evaluate import simulate

_BOB = "arn:aws:iam::111111111111:user/bob"
_ACTIONS = ["*", "s3:*", "s3:Get*", "s3:GetObject", "s3:PutObject", "sqs:*"]
_RESOURCES = ["*", "arn:aws:s3:::a/*", "arn:aws:s3:::b/*", "arn:aws:s3:::a/x", "arn:aws:s3:::*/x"]


@pytest.mark.parametrize("seed", range(10))
def test_decisions_are_those_of_moto(seed: int) -> None:
    access = pytest.importorskip("moto.iam.access_control", reason="aws: no moto")
    random = Random(seed)
    for _ in range(40):
        statements = [
            {
                "Effect": random.choice(["Allow", "Allow", "Deny"]),
                "Action": random.sample(_ACTIONS, random.randint(1, 2)),
                "Resource": random.sample(_RESOURCES, random.randint(1, 2)),
            }
            for _ in range(random.randint(1, 3))
        ]
        document = {"Version": "2012-10-17", "Statement": statements}
        user = {"UserName": "bob", "Arn": _BOB, "UserPolicyList": [{"PolicyName": "p", "PolicyDocument": document}]}
        account, _ = read_account({"UserDetailList": [user]})
        judge = access.IAMPolicy(json.dumps(document))
        for action, resource in product(("s3:GetObject", "s3:PutObject"), ("arn:aws:s3:::a/x", "arn:aws:s3:::b/y")):
            permitted = judge.is_action_permitted(action, resource) == access.PermissionResult.PERMITTED
            assert (simulate(account, _BOB, action, resource).decision == "allow") is permitted, document
