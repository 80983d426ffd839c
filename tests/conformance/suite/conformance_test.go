// Package conformance is the official Gateway API conformance suite as an ordinary Go test, aimed at the cluster
// that KUBECONFIG names. All of the suite's own flags work, and win over what is set here.
package conformance

import (
	"cmp"
	"flag"
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	report "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

// What Tulle says it supports beyond the profiles' core. Each name switches tests on, and a test that fails then is
// our failure: the list only ever holds what passes.
var supported = []features.FeatureName{
	// all that the two profiles count as extended
	features.SupportMeshClusterIPMatching,
	features.SupportMeshConsumerRoute,
	features.SupportMeshHTTPRouteBackendRequestHeaderModification,
	features.SupportMeshHTTPRouteNamedRouteRule,
	features.SupportMeshHTTPRouteQueryParamMatching,
	features.SupportMeshHTTPRouteRedirectPath,
	features.SupportMeshHTTPRouteRedirectPort,
	features.SupportMeshHTTPRouteRewritePath,
	features.SupportMeshHTTPRouteSchemeRedirect,
	// features of gateways that switch more of the mesh's tests on; the report does not count them
	features.SupportHTTPRouteResponseHeaderModification, // MeshFrontend, MeshFrontendHostname, MeshConsumerRoute, MeshPorts
	features.SupportHTTPRouteParentRefPort,              // MeshPorts
	features.SupportHTTPRoute303RedirectStatusCode,
	features.SupportHTTPRoute307RedirectStatusCode,
	features.SupportHTTPRoute308RedirectStatusCode,
}

func TestMesh(t *testing.T) {
	o := conformance.DefaultOptions(t)
	if !given("conformance-profiles") {
		o.ConformanceProfiles = []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName}
	}
	if !given("supported-features") {
		o.SupportedFeatures = supported
	}
	// A report without a name is refused; the version comes by the flag.
	o.Implementation = report.Implementation{
		Organization: "tulle", Project: "tulle", URL: "https://tulle.dev", Version: o.Implementation.Version, Contact: []string{"https://tulle.dev"},
	}
	if o.ReportOutputPath != "" {
		t.Cleanup(func() { ordered(t, o.ReportOutputPath) }) // the suite's own, which writes it, was then before
	}
	conformance.RunConformanceWithOptions(t, o)
}

// The suite lists profiles in the order of a Go map: another one each time.
func ordered(t *testing.T, path string) {
	var r report.ConformanceReport
	raw, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(raw, &r)
	}
	if err == nil {
		slices.SortFunc(r.ProfileReports, func(a, b report.ProfileReport) int { return cmp.Compare(a.Name, b.Name) })
		raw, err = yaml.Marshal(r)
	}
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Errorf("the report's order: %v", err)
	}
}

func given(name string) (is bool) {
	flag.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}
