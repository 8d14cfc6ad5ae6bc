{{/* What every object carries. Selectors have the name alone, so that they never change. */}}
{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* By digest where there is one. */}}
{{- define "sluice.image" -}}
{{- $tag := .Values.image.tag | default (printf "v%s" .Chart.AppVersion) -}}
{{- with .Values.image.digest -}}
{{ $.Values.image.repository }}@{{ . }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{/* Settings as the agent's environment: maxFlows is SLUICE_MAX_FLOWS; a list has commas between. */}}
{{- define "sluice.environment" -}}
{{- $config := deepCopy .Values.config -}}
{{- if and .Values.monitoring.enabled (not (hasKey $config "metricsBindAddress")) -}}
{{- $_ := set $config "metricsBindAddress" "0.0.0.0:10249" -}}
{{- end -}}
{{- range $field, $value := $config }}
{{- if kindIs "slice" $value }}
SLUICE_{{ $field | snakecase | upper }}: {{ join "," $value | quote }}
{{- else if kindIs "float64" $value }}
SLUICE_{{ $field | snakecase | upper }}: {{ $value | int64 | toString | quote }}
{{- else if not (kindIs "invalid" $value) }}
SLUICE_{{ $field | snakecase | upper }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
