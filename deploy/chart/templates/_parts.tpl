{{- define "quickstudy.labels" -}}
app.kubernetes.io/name: quickstudy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "quickstudy.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What every pod gets by: no root, no root file system to write, no capability, no token. */}}
{{- define "quickstudy.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
# Else the program, as process 1, would hear no signal to stop before it serves.
shareProcessNamespace: true
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "quickstudy.container" -}}
image: {{ include "quickstudy.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop:
      - ALL
{{- end }}

{{- define "quickstudy.mounts" -}}
- name: tmp
  mountPath: /tmp
{{- if ne .Values.database "sqlite" }}
# Where settings are looked for too: quickstudy_database_url.
- name: secrets
  mountPath: /run/secrets
  readOnly: true
{{- end }}
{{- end }}

{{- define "quickstudy.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- if ne .Values.database "sqlite" }}
- name: secrets
  secret:
    {{- if eq .Values.database "cloudnative-pg" }}
    # The operator writes it.
    secretName: {{ .Release.Name }}-db-app
    items:
      - key: uri
        path: quickstudy_database_url
    {{- else }}
    secretName: {{ .Values.databaseSecret }}
    items:
      - key: quickstudy_database_url
        path: quickstudy_database_url
    {{- end }}
    defaultMode: 0440
{{- end }}
{{- end }}
