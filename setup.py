"""Package persipubsub."""

from pathlib import Path

from setuptools import find_packages, setup

CLI = ["typer>=0.15,<1", "rich>=13.7,<16"]

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
    package_data={"persipubsub": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=["lmdb>=3.0,<4", "icontract>=2.7,<3", "msgspec>=0.19,<1", "xxhash>=3.4,<5"],
    extras_require={
        "cli": CLI,
        "nats": ["nats-py>=2.9,<3"],
        "docs": ["sphinx>=8,<10", "furo>=2024.8.6", "sphinx-icontract>=2.0.3,<3"],
        # Everything that precommit.py runs. The formatter is bounded tightly: its next minor version may
        # format differently, and the gate would then fail on files that nobody touched.
        "dev": [
            *CLI,
            "build>=1.2,<2",
            "coverage>=7.10,<8",
            # The test client of Starlette, which an example uses.
            "httpx2>=2,<3",
            "hypothesis>=6.100,<7",
            "mypy>=1.15,<3",
            # Its parser reads the standard library, of Python 3.11 at most.
            "pyicontract-lint>=2.1.4,<3; python_version < '3.12'",
            "pytest>=8.3,<10",
            "pytest-timeout>=2.3,<3",
            "ruff>=0.17,<0.18",
            "setuptools>=77,<90",
            "starlette>=1.10,<2",
            "twine>=6.1,<8",
        ],
    },
    entry_points={"console_scripts": ["persipubsub = persipubsub.cli:main"]},
)
