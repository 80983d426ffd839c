# Two commands do everything on a fresh machine, and install what they need:
#   make demo   runs the mesh for real on this machine, scene by scene
#   make test   passes all the tests
.PHONY: demo test cluster conformance bench images dashboard screenshots check fuzz help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 13

#   SCENES=1,2  only these     JSON=FILE  results as JSON     CONTROL=1  each without the mesh's part: must fail
demo:
	@tests/demo

test:
	@tests/setup cluster
	@tests/run

#   make cluster [NODES=2]  a Kubernetes cluster on this machine to work with; says how to use it and how to take it down
cluster:
	@tests/setup cluster
	@tests/cluster/dev $(NODES)

#   make conformance [RUNS=10] [CHANNEL=experimental]  Gateway API's suite against the mesh; writes docs/conformance
conformance:
	@tests/setup cluster
	@tests/conformance/run mesh --runs $(or $(RUNS),1) --channel $(or $(CHANNEL),standard) --reports docs/conformance

#   make bench  what the mesh costs, against its targets    ONLY=memory,change  JSON=FILE  SMALL=1  a tenth of it
bench:
	@tests/setup
	@tests/bench/run

#   make images  OCI archives of all images, without docker    OUT=dir  PROFILE=dist|release|dev  REGISTRY=tulle  TAG=
images:
	@tests/setup
	@deploy/images/build --profile $(or $(PROFILE),dist) $(if $(OUT),--out $(OUT)) $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(TAG),--tag $(TAG))

#   make dashboard  checks and packs the dashboard into dashboard/dist; the next build of the control plane has it
dashboard:
	@dashboard/build

#   make check  formatting, lints, docs, unit and property tests: no root, no namespaces
check:
	@tests/run quick

#   make fuzz SECONDS=600  coverage-guided fuzzing of each parser of strangers' bytes, for so long
fuzz:
	@tests/setup fuzz
	@tests/fuzz/run $(or $(SECONDS),600)

#   make screenshots  pictures of the dashboard's pages, into docs/images    ALL=1  in both themes, wide and narrow
screenshots:
	@tests/dashboard/run screenshots $(or $(OUT),docs/images)
