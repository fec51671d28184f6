"""django-q2's queue table has no index, and each poll of each cluster reads it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("buffer", "0001_initial"),
        ("django_q", "0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more"),
    ]

    operations = [
        migrations.RunSQL(
            'CREATE INDEX buffer_ormq_next ON django_q_ormq ("key", "lock")',
            "DROP INDEX buffer_ormq_next",
        ),
    ]
