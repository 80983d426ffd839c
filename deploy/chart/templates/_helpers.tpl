{{- define "tulle.labels" -}}
app.kubernetes.io/name: tulle-control-plane
app.kubernetes.io/part-of: tulle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "tulle.cni.labels" -}}
app.kubernetes.io/name: tulle-cni
app.kubernetes.io/part-of: tulle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "tulle.selector" -}}
app.kubernetes.io/name: tulle-control-plane
{{- end }}

{{- /* Metadata of an object: name and, with a namespace, that; a label more, if there is one. */}}
{{- define "tulle.metadata" -}}
name: {{ .name }}
{{- if .namespaced }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "tulle.labels" .root | nindent 2 }}
  {{- with .label }}
  {{ . }}: "true"
  {{- end }}
{{- end }}

{{- define "tulle.image" -}}
{{- $image := .root.Values.image -}}
{{- $name := printf "%s/tulle-%s" (trimSuffix "/" $image.registry) .name -}}
{{- if .digest }}{{ $name }}@{{ .digest }}{{ else }}{{ $name }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* What injection.yaml says, as JSON. */}}
{{- define "tulle.injection" -}}
{{- $values := omit .Values.injection "accessLogSample" -}}
{{- if gt (int .Values.injection.accessLogSample) 0 }}{{ $values = .Values.injection }}{{ end -}}
{{- $where := dict
  "proxyImage" (include "tulle.image" (dict "root" . "name" "proxy" "digest" .Values.image.digests.proxy))
  "redirectImage" (include "tulle.image" (dict "root" . "name" "redirect" "digest" .Values.image.digests.redirect))
  "envoyImage" .Values.image.envoy
  "imagePullPolicy" .Values.image.pullPolicy
  "cni" .Values.cni.enabled
  "controlPlane" (printf "tulle-control-plane.%s.svc:15010" .Release.Namespace) -}}
{{- mergeOverwrite (dict) $values $where | mustToRawJson }}
{{- end }}
