"""python -m docs.audit advisories | licences | bill."""

import sys

from docs.audit import advisories, bill, licences


def main(what: str) -> int:
    if what == "advisories":
        return advisories.report()
    if what == "licences":
        licences.renew()
        print(f"audit: {licences.PAGE}")
        return 0
    if what == "bill":
        print(f"audit: {bill.write()} packages in {bill.OUT}")
        return 0
    print(f"audit: got {what!r}; allowed: advisories, licences, bill", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
