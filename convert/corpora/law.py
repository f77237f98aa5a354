"""Pile of Law: legal and administrative texts; a skill is one of its slices, which the file's name says.

The published files are ``train.<stem>.jsonl.xz`` and ``validation.<stem>.jsonl.xz``, large ones in numbered pieces
(``train.<stem>.3.jsonl.xz``). Some stems differ from the names of the slices.
"""

import re

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.rows import Row

SLICES = (
    'acus_reports',
    'atticus_contracts',
    'bar_exam_outlines',
    'bva_opinions',
    'canadian_decisions',
    'cc_casebooks',
    'cfpb_creditcard_contracts',
    'cfr',
    'congressional_hearings',
    'constitutions',
    'courtlistener_docket_entry_documents',
    'courtlistener_opinions',
    'doj_guidance_documents',
    'dol_ecab',
    'echr',
    'ed_policy_guidance',
    'edgar',
    'eoir',
    'eurlex',
    'euro_parl',
    'federal_register',
    'fmshrc_bluebooks',
    'founding_docs',
    'frcp',
    'fre',
    'ftc_advisory_opinions',
    'hhs_alj_opinions',
    'icj-pcij',
    'irs_legal_advice_memos',
    'medicaid_policy_guidance',
    'nlrb_decisions',
    'oig',
    'olc_memos',
    'r_legaladvice',
    'resource_contracts',
    'scotus_filings',
    'scotus_oral_arguments',
    'sec_administrative_proceedings',
    'state_codes',
    'tax_rulings',
    'tos',
    'un_debates',
    'us_bills',
    'uscode',
    'uspto_office_actions',
)
# Stems of published files that are not the slice's name.
STEMS = {
    'bva': 'bva_opinions',
    'cfpb_cc': 'cfpb_creditcard_contracts',
    'courtlistenerdocketentries': 'courtlistener_docket_entry_documents',
    'courtlisteneropinions': 'courtlistener_opinions',
    'doj_guidance': 'doj_guidance_documents',
    'exam_outlines': 'bar_exam_outlines',
    'examoutlines': 'bar_exam_outlines',
    'fmshrc': 'fmshrc_bluebooks',
    'hhs_alj': 'hhs_alj_opinions',
    'icj_pcij': 'icj-pcij',
    'ijc': 'icj-pcij',
    'olcmemos': 'olc_memos',
    'r_legaldvice': 'r_legaladvice',
    'scotus_docket_entries': 'scotus_filings',
    'scotus_oral': 'scotus_oral_arguments',
    'sec': 'sec_administrative_proceedings',
    'state_code': 'state_codes',
    'taxrulings': 'tax_rulings',
    'undebates': 'un_debates',
    'uspto_oab': 'uspto_office_actions',
}
FILE_NAME = re.compile(r'(?:(?:train|validation)\.)?(.+?)(?:\.\d+)?(?:\.jsonl?)?(?:\.(?:gz|zst|xz|bz2))?')


def skill_of(row: Row, file: InputFile, where: str) -> str:  # noqa: ARG001
    """The slice a file is of, by its name or that of the folder it is in.

    Raises:
        BadRecordError: Neither is named after a slice.
    """
    for name in (file.name.rsplit('/', 1)[-1], file.folders[-1]):
        if skill := slice_named(name):
            return skill
    raise BadRecordError(
        'unknown_source',
        where=where,
        what='neither the file nor its folder is named after a slice of Pile of Law',
        remedy=f'keep the published names, such as train.{SLICES[0]}.jsonl.xz',
    )


def slice_named(name: str) -> str | None:
    """The slice that a file or folder name stands for, or None."""
    found = FILE_NAME.fullmatch(name)
    stem = found[1] if found else ''
    return STEMS.get(stem, stem if stem in SLICES else None)
